-- Grants one request out of a credential's budgets, or says how long to wait; a refusal uses nothing up.
-- KEYS: credential, bucket, running, points of the minute, writes of the minute, writes of the hour
-- ARGV: request, bucket, points, writes, reserve (share that stays), hold (s),
--       most at once, points a minute, writes a minute, writes an hour
-- Returns: { '1' | '0', wait (s), reason ('' when granted), strikes }
local now = clock()
local request, bucket = ARGV[1], ARGV[2]
local points, writes, reserve = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

local function refuse(wait_s, reason)
  return { '0', stamp(math.max(0.1, wait_s)), reason, redis.call('HGET', KEYS[1], 'strikes') or '0' }
end

-- What was spent in the last `span_s`, kept as a sum for each slice of it, and when the oldest slice leaves.
local function spent(key, span_s, slice_s)
  local sum, oldest = 0, nil
  local slices = redis.call('HGETALL', key)
  for at = 1, #slices, 2 do
    local slice = tonumber(slices[at])
    if (slice + 1) * slice_s <= now - span_s then
      redis.call('HDEL', key, slices[at])
    else
      sum = sum + tonumber(slices[at + 1])
      oldest = oldest and math.min(oldest, slice) or slice
    end
  end
  return sum, oldest and (oldest + 1) * slice_s + span_s - now or 0
end

local function spend(key, amount, span_s, slice_s)
  redis.call('HINCRBY', key, string.format('%d', math.floor(now / slice_s)), amount)
  redis.call('EXPIRE', key, span_s * 2)
end

for at = 1, 2 do
  local blocked_until = tonumber(redis.call('HGET', KEYS[at], 'blocked_until') or '0')
  if blocked_until > now then
    return refuse(blocked_until - now, at == 1 and 'secondary_limit' or 'primary_limit')
  end
end

redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
local running = redis.call('ZRANGE', KEYS[3], 0, -1)
if #running >= math.max(1, math.floor(tonumber(ARGV[7]) * (1 - reserve))) then
  return refuse(1, 'too_many_at_once')
end

local known = redis.call('HMGET', KEYS[2], 'limit', 'used', 'reset_at')
if known[1] then
  local limit, used, reset_at = tonumber(known[1]), tonumber(known[2]), tonumber(known[3])
  if now >= reset_at then
    used = 0
  end
  local floor, in_flight = math.floor(limit * reserve), 0
  for _, other in ipairs(running) do
    if string.sub(other, 1, #bucket + 1) == bucket .. ' ' then
      in_flight = in_flight + 1
    end
  end
  if limit - used <= floor then
    return refuse(reset_at - now, used >= limit and 'used_up' or 'reserved')
  end
  if limit - used - in_flight <= floor then
    return refuse(1, 'in_flight')
  end
end

local windows = {
  { KEYS[4], points, 60, 5, tonumber(ARGV[8]), 'points_per_minute' },
  { KEYS[5], writes, 60, 5, tonumber(ARGV[9]), 'writes_per_minute' },
  { KEYS[6], writes, 3600, 60, tonumber(ARGV[10]), 'writes_per_hour' },
}
for _, window in ipairs(windows) do
  local key, amount, span_s, slice_s, most, reason = unpack(window)
  if amount > 0 then
    local sum, leaves_s = spent(key, span_s, slice_s)
    if sum > 0 and sum + amount > most * (1 - reserve) then
      return refuse(leaves_s, reason)
    end
  end
end
for _, window in ipairs(windows) do
  local key, amount, span_s, slice_s = unpack(window)
  if amount > 0 then
    spend(key, amount, span_s, slice_s)
  end
end
redis.call('ZADD', KEYS[3], now + tonumber(ARGV[6]), request)
redis.call('EXPIRE', KEYS[3], 3600)
return { '1', '0', '', '0' }
