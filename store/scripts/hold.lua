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
  local list, tenant, message = let_go(KEYS[1], KEYS[2], tag)
  if list then
    put_first(list, tenant, message)
  end
end
if #silent > 0 then
  ring(KEYS[3])
end
return #silent
