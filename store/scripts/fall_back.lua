-- Hands a call whose operation could not be begun to the next operation of its chain: under another tool, with a fresh
-- count of attempts. What the next one is was signed and stored when the call was accepted.
-- KEYS: call
-- ARGV: id, fence, nonce
-- Returns: 'ok' | 'lost' (another attempt holds the call, or it has ended) | 'late' (its effect has begun, its deadline
--          is over, or the chain is at its end: nothing was changed)
local id, fence, nonce = ARGV[1], ARGV[2], ARGV[3]
local call = redis.call('HMGET', KEYS[1], 'state', 'fence', 'nonce', 'effect', 'deadline', 'operation', 'fallback_from',
  'fallback_at', 'in_doubt')
local state = call[1]
if call[2] ~= fence or call[3] ~= nonce or not MOVES[state] or not MOVES[state].accepted then
  return 'lost'
end
local now, place = clock(), tonumber(call[8] or '0') + 1
local next_one = redis.call('HGET', KEYS[1], 'fallback:' .. place)
local again = state == 'running' or call[4] == 'read' or call[4] == 'idempotent'
if not next_one or not again or call[9] or now >= tonumber(call[5]) then
  return 'late'
end
local operation, tool, queue, list, bell, effect, message, record = string.match(next_one,
  '^([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)$')
take_back_task(id)  -- while the record still says from which queue
redis.call('HSET', KEYS[1], 'operation', operation, 'tool', tool, 'queue', queue, 'list', list, 'bell', bell,
  'effect', effect, 'message', message, 'call', record, 'attempts', 0, 'fallback_at', place,
  'fallback_from', call[7] or call[6])
redis.call('HDEL', KEYS[1], 'nonce', 'lease_until', 'fallback:' .. place)
move(id, state, 'accepted', now)
look_again(id, now + patience_s(list))
enqueue_again(id)
return 'ok'
