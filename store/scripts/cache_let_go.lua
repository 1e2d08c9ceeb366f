-- The call that ran for all has no answer to keep: the next one who asks runs.
-- KEYS: flight
-- ARGV: call id
-- Returns: 1 when it led
local flight = redis.call('GET', KEYS[1])
if flight and string.match(flight, '^[^\n]+') == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
