-- RabbitMQ gave up on a task: it was handed out again and again, and always came back. Its call is enqueued once more, or
-- ends as poison: it cannot even be claimed.
-- KEYS: call
-- ARGV: id, how often that may happen to one call
-- Returns: 'gone' | 'ended' | 'busy' (it runs, or waits to be released) | 'enqueued' | 'poison'
local id = ARGV[1]
local call = redis.call('HMGET', KEYS[1], 'state', 'queue', 'carried')
if not call[1] then
  return 'gone'
end
if ended(call[1]) then
  return 'ended'
end
if call[1] ~= 'accepted' or not call[3] or redis.call('HEXISTS', 'ts:unacked:' .. call[2], id) == 0 then
  return 'busy'
end
if redis.call('HINCRBY', KEYS[1], 'undelivered', 1) >= tonumber(ARGV[2]) then
  end_unanswered(id, 'accepted', 'failed', clock(), 'poison',
    'its task came back from every worker that it was handed to: the call is not run again', false, nil, true)
  return 'poison'
end
take_back_task(id)
enqueue_again(id)
return 'enqueued'
