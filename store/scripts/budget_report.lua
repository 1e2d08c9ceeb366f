-- Learns from the answer to a request (or from its absence) and ends the request.
-- KEYS: credential, bucket, running
-- ARGV: request, limit | '', used, window (the server's own time of the reset), reset in (s),
--       outcome ('ok' | 'none' | 'bucket' | 'credential': what is blocked), blocked for (s),
--       '1' when that doubles with each block in a row, at most to (s)
-- Returns: { how many times in a row this credential was blocked, blocked for (s) }
local now = clock()
redis.call('ZREM', KEYS[3], ARGV[1])
if ARGV[2] ~= '' then
  local limit, used, window = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
  local known = redis.call('HMGET', KEYS[2], 'used', 'window', 'reset_at')
  local last = tonumber(known[2] or '-inf')
  if known[3] and now >= tonumber(known[3]) then
    last = -math.huge
  end
  -- Answers come in any order: within one window `used` only grows, and an older window's says nothing any more.
  -- The time of the reset wavers by a second.
  if window > last + 2 then
    redis.call('HSET', KEYS[2], 'limit', limit, 'used', used, 'window', window, 'reset_at', stamp(now + tonumber(ARGV[5])))
  elseif window >= last - 2 then
    redis.call('HSET', KEYS[2], 'limit', limit, 'used', math.max(used, tonumber(known[1])))
  end
  redis.call('EXPIRE', KEYS[2], 7200)
end
local outcome, blocked_s = ARGV[6], 0
if outcome == 'ok' then
  redis.call('HDEL', KEYS[1], 'strikes')
elseif outcome ~= 'none' then
  local key = outcome == 'bucket' and KEYS[2] or KEYS[1]
  local blocked_until = tonumber(redis.call('HGET', key, 'blocked_until') or '0')
  if blocked_until <= now then
    redis.call('HINCRBY', KEYS[1], 'strikes', 1) -- the first of those that were on their way together
  end
  blocked_s = tonumber(ARGV[7])
  if ARGV[8] == '1' then
    local strikes = tonumber(redis.call('HGET', KEYS[1], 'strikes') or '1')
    blocked_s = math.min(tonumber(ARGV[9]), blocked_s * 2 ^ (strikes - 1))
  end
  blocked_until = math.max(blocked_until, now + blocked_s)
  blocked_s = blocked_until - now
  redis.call('HSET', key, 'blocked_until', stamp(blocked_until))
  redis.call('EXPIRE', KEYS[1], 7200)
  redis.call('EXPIRE', key, 7200)
end
return { redis.call('HGET', KEYS[1], 'strikes') or '0', stamp(blocked_s) }
