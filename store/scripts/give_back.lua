-- Returns tasks that a worker holds to the front of their lists.
-- KEYS: unacked, unacked index, bell
-- ARGV: delivery tags
-- Returns: the number of tasks returned
local returned = 0
for _, tag in ipairs(ARGV) do
  local held = redis.call('HGET', KEYS[1], tag)
  if held then
    local cut = string.find(held, '\n', 1, true)
    redis.call('RPUSH', string.sub(held, 1, cut - 1), string.sub(held, cut + 1))
    returned = returned + 1
  end
  redis.call('HDEL', KEYS[1], tag)
  redis.call('ZREM', KEYS[2], tag)
end
if returned > 0 then
  ring(KEYS[3])
end
return returned
