-- Counts requests of remembered reads. A member's level is the logarithm of its count, in which a request weighs half as
-- much after each half-life: levels need no rewriting as time passes. Its score is the level with the cost, so the
-- members that save the least go first when there are too many.
-- KEYS: scores, states, calls
-- ARGV: half-life (s), most members, then for each member: its name, requests, seconds that an answer is fresh,
--       seconds that the one that was found is still fresh ('' when none was found), what a run takes in seconds ('')
-- Returns: the members whose call is not known
-- A state is {level, cost (s), ttl (s), fresh until, asked at, claimed at, known since}: who has hardly been asked for
-- lately is known anew.
local half_life_s, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local now = clock()
local at = now * math.log(2) / half_life_s
for i = 3, #ARGV, 5 do
  local member, packed = ARGV[i], redis.call('HGET', KEYS[2], ARGV[i])
  local state = packed and cmsgpack.unpack(packed) or { false, 0, 0, 0, 0, 0, now }
  local level = math.log(tonumber(ARGV[i + 1])) + at
  if state[1] and state[1] - at < math.log(0.1) then
    state[1], state[7] = false, now
  end
  if state[1] then
    local high, low = math.max(level, state[1]), math.min(level, state[1])
    level = high + math.log(1 + math.exp(low - high))
  end
  local cost_s = tonumber(ARGV[i + 4])
  if cost_s then
    cost_s = state[2] > 0 and state[2] + (cost_s - state[2]) / 4 or cost_s
  end
  cost_s = cost_s or state[2]
  local fresh_s = tonumber(ARGV[i + 3])
  local fresh_until = fresh_s and math.max(state[4], now + fresh_s) or state[4]
  state = { level, cost_s, tonumber(ARGV[i + 2]), fresh_until, now, state[6], state[7] }
  redis.call('HSET', KEYS[2], member, cmsgpack.pack(state))
  redis.call('ZADD', KEYS[1], string.format('%.17g', level + math.log(math.max(cost_s, 0.001))), member)
end
local excess = redis.call('ZCARD', KEYS[1]) - most
if excess > 0 then
  for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, excess - 1)) do
    redis.call('ZREM', KEYS[1], member)
    redis.call('HDEL', KEYS[2], member)
    redis.call('HDEL', KEYS[3], member)
  end
end
for _, key in ipairs(KEYS) do
  redis.call('EXPIRE', key, math.ceil(20 * half_life_s))
end
local unknown = {}
for i = 3, #ARGV, 5 do
  if redis.call('HEXISTS', KEYS[2], ARGV[i]) == 1 and redis.call('HEXISTS', KEYS[3], ARGV[i]) == 0 then
    unknown[#unknown + 1] = ARGV[i]
  end
end
return unknown
