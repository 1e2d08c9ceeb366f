-- Gives leadership up.
-- KEYS: lock
-- ARGV: nonce
-- Returns: 1 when the caller led, else 0
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
