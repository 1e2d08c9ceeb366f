-- Sets fields of a hash that expires; with a guard only when that field has that value still.
-- KEYS: hash
-- ARGV: expiry in seconds, guard (a field, or ''), its value, then fields and values
-- Returns: all fields and values as they are now; nothing when the guard did not hold
if ARGV[2] ~= '' and redis.call('HGET', KEYS[1], ARGV[2]) ~= ARGV[3] then
  return {}
end
for place = 4, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[place], ARGV[place + 1])
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return redis.call('HGETALL', KEYS[1])
