-- Sets the fallback chain of a tool or an operation, when nobody has changed any since the caller looked: two that are
-- fine by themselves may be a loop together. The sweep of beat keeps the whole from expiring.
-- KEYS: chains
-- ARGV: name, chain (JSON; '' forgets it), then the names and chains that the caller has seen
-- Returns: 1 | 0 when they are not these any more
if redis.call('HLEN', KEYS[1]) ~= (#ARGV - 2) / 2 then
  return 0
end
for place = 3, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[place]) ~= ARGV[place + 1] then
    return 0
  end
end
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
redis.call('EXPIRE', KEYS[1], 30 * DAY_S)
return 1
