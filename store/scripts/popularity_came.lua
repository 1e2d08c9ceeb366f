-- Counts what came of a refresh that nobody waited for.
-- KEYS: counts
-- ARGV: what came, seconds that the counts are kept
-- Returns: how often it came
local count = redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
redis.call('EXPIRE', KEYS[1], ARGV[2])
return count
