-- Forgets popular calls.
-- KEYS: scores, states, calls
-- ARGV: members
-- Returns: how many there were
local found = redis.call('ZREM', KEYS[1], unpack(ARGV))
redis.call('HDEL', KEYS[2], unpack(ARGV))
redis.call('HDEL', KEYS[3], unpack(ARGV))
return found
