-- Writes a tool's part of the catalogue.
-- KEYS: catalogue
-- ARGV: tool, operations (JSON)
-- Returns: 1
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], 7 * DAY_S)
return 1
