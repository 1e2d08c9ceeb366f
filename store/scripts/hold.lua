-- Says that a worker still holds its tasks, then returns those to their lists that nobody has spoken for.
-- KEYS: unacked, unacked index, bell
-- ARGV: visibility timeout (s), then the worker's own delivery tags
-- Returns: the number of tasks returned
local now, timeout_s = clock(), tonumber(ARGV[1])
for place = 2, #ARGV do
  redis.call('ZADD', KEYS[2], 'XX', now, ARGV[place])
end
local silent = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - timeout_s, 'LIMIT', 0, 200)
for _, tag in ipairs(silent) do
  local held = redis.call('HGET', KEYS[1], tag)
  if held then
    local cut = string.find(held, '\n', 1, true)
    redis.call('RPUSH', string.sub(held, 1, cut - 1), string.sub(held, cut + 1))
  end
  redis.call('HDEL', KEYS[1], tag)
  redis.call('ZREM', KEYS[2], tag)
end
if #silent > 0 then
  ring(KEYS[3])
end
return #silent
