-- Gives a call back whose effect has not begun (a worker drains): another one runs it, the attempt does not count.
-- KEYS: call
-- ARGV: id, fence, nonce
-- Returns: 'ok' | 'lost'
local id, fence, nonce = ARGV[1], ARGV[2], ARGV[3]
local call = redis.call('HMGET', KEYS[1], 'state', 'fence', 'nonce', 'effect')
local again = call[1] == 'running' or (call[1] == 'effecting' and (call[4] == 'read' or call[4] == 'idempotent'))
if not again or call[2] ~= fence or call[3] ~= nonce then
  return 'lost'
end
local now = clock()
redis.call('HINCRBY', KEYS[1], 'attempts', -1)
redis.call('HDEL', KEYS[1], 'nonce', 'lease_until')
move(id, call[1], 'accepted', now)
look_again(id, now + 10)
enqueue_again(id)
return 'ok'
