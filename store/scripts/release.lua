-- Gives a call back, for another attempt now or after a delay.
-- KEYS: call
-- ARGV: id, fence, nonce, delay (s), '1' when the attempt counts else '0'
-- Returns: 'ok' | 'lost' (another attempt holds the call, it has ended, or it must not run again)
--          | 'late' (its deadline or its last attempt comes first; nothing was changed)
local id, fence, nonce, delay_s, counts = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
local call = redis.call('HMGET', KEYS[1], 'state', 'fence', 'nonce', 'effect', 'deadline', 'attempts', 'max_attempts',
  'list')
local state, effect = call[1], call[4]
local begun = state == 'effecting' and effect ~= 'read' and effect ~= 'idempotent'
if call[2] ~= fence or call[3] ~= nonce or not MOVES[state] or not MOVES[state].accepted then
  return 'lost'
end
if begun and effect ~= 'verifiable' then
  return 'lost'
end
local now = clock()
if now + delay_s >= tonumber(call[5]) or (counts and tonumber(call[6]) >= tonumber(call[7])) then
  return 'late'
end
if begun then
  redis.call('HSET', KEYS[1], 'in_doubt', '1')
end
if not counts then
  redis.call('HINCRBY', KEYS[1], 'attempts', -1)
end
redis.call('HDEL', KEYS[1], 'nonce', 'lease_until')
move(id, state, 'accepted', now)
if delay_s > 0 then
  redis.call('HSET', KEYS[1], 'not_before', stamp(now + delay_s))
  look_again(id, now + delay_s)
else
  look_again(id, now + patience_s(call[8]))
  enqueue_again(id)
end
return 'ok'
