-- Counts a task whose signature was refused.
-- KEYS: counters
-- ARGV: tool
-- Returns: how many there were so far
local refused = redis.call('HINCRBY', KEYS[1], ARGV[1] .. '|refused', 1)
redis.call('EXPIRE', KEYS[1], 30 * DAY_S)
return refused
