-- Writes the heartbeat of one worker; no key is left without an expiry.
-- KEYS: the worker, the list of workers
-- ARGV: name, expiry (s), seconds since it last polled, then pairs of further fields
-- Returns: 1
local now = clock()
redis.call('HSET', KEYS[1], 'seen_at', stamp(now), 'polled_at', stamp(now - tonumber(ARGV[3])), unpack(ARGV, 4))
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('EXPIRE', KEYS[2], DAY_S)
return 1
