-- Grants the right to refresh: each time that an answer is due it is granted once. Never more in a minute than may be, and
-- in a shorter time no more than that time's share, so that a minute's refreshes are not used up in its first seconds.
-- KEYS: states, claims of the last minute
-- ARGV: most claims in a minute, the shorter time (s), then for each member: its name, until when it was seen to be fresh
-- Returns: the members that are granted; they count as fresh for their whole time again
local most, short_s = tonumber(ARGV[1]), tonumber(ARGV[2])
local now = clock()
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', stamp(now - 60))
local left = math.min(
  most - redis.call('ZCARD', KEYS[2]),
  math.ceil(most * short_s / 60) - redis.call('ZCOUNT', KEYS[2], stamp(now - short_s), '+inf')
)
local granted = {}
for i = 3, #ARGV, 2 do
  local packed = left > 0 and redis.call('HGET', KEYS[1], ARGV[i])
  local state = packed and cmsgpack.unpack(packed)
  if state and state[4] == tonumber(ARGV[i + 1]) then
    state[4], state[6] = now + state[3], now
    redis.call('HSET', KEYS[1], ARGV[i], cmsgpack.pack(state))
    redis.call('ZADD', KEYS[2], stamp(now), ARGV[i] .. stamp(now))
    granted[#granted + 1] = ARGV[i]
    left = left - 1
  end
end
redis.call('EXPIRE', KEYS[2], 60)
return granted
