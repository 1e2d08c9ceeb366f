-- Keeps what is needed to run a popular call again.
-- KEYS: states, calls
-- ARGV: seconds that it is kept, then for each member: its name, its call (sealed)
-- Returns: 1
for i = 2, #ARGV, 2 do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  end
end
redis.call('EXPIRE', KEYS[2], ARGV[1])
return 1
