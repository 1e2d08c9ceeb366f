-- Ends a call with the result of the attempt that holds it. Safe to repeat.
-- KEYS: call
-- ARGV: id, fence, nonce, state, result (JSON), '1' when it is a dead letter: its last attempt failed, too
-- Returns: 'ok' | 'lost' (another attempt holds the call, or it has ended otherwise)
local id, fence, nonce, to, result = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local call = redis.call('HMGET', KEYS[1], 'state', 'fence', 'nonce')
if call[2] ~= fence or call[3] ~= nonce or not call[1] then
  return 'lost'
end
if ended(call[1]) then
  return call[1] == to and 'ok' or 'lost'
end
if not MOVES[call[1]][to] or call[1] == 'accepted' then
  return 'lost'
end
finish(id, call[1], to, clock(), result, ARGV[6] == '1')
return 'ok'
