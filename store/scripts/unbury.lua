-- Takes a call from its tenant's list of dead letters, and notes what came of it.
-- KEYS: list of dead letters, call
-- ARGV: id, how long the record is kept from now (s), field, value
-- Returns: 1, or 0 when it is not on the list (any more)
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then
  return 0
end
if redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
  redis.call('EXPIRE', KEYS[2], ARGV[2])
end
return 1
