-- Takes tasks from a worker's queues and holds them for it in the same step (kombu's BRPOP, then ZADD, can lose one).
-- KEYS: unacked, unacked index, bell, then the lists, highest priority first
-- ARGV: the most tasks to take
-- Returns: pairs of list key and message
local room = tonumber(ARGV[1])
local now = clock()
local taken = {}
for place = 4, #KEYS do
  while room > 0 do
    local message = redis.call('RPOP', KEYS[place])
    if not message then
      break
    end
    local tag = cjson.decode(message).properties.delivery_tag
    redis.call('HSET', KEYS[1], tag, KEYS[place] .. '\n' .. message)
    redis.call('ZADD', KEYS[2], now, tag)
    taken[#taken + 1] = KEYS[place]
    taken[#taken + 1] = message
    room = room - 1
  end
end
-- Tasks are left and one worker was woken by one bell: wake the next.
for place = 4, #KEYS do
  if redis.call('EXISTS', KEYS[place]) == 1 then
    ring(KEYS[3])
    break
  end
end
return taken
