-- Grants a call to one worker under a new fence and a lease. Safe to repeat with the same nonce.
-- KEYS: call
-- ARGV: id, worker, nonce, lease (s)
-- Returns: {'granted', fence, attempt, call, accepted_at, now, deadline, '1' when in doubt else '',
--           operation that this one stands in for or '', 1 when the chain has a next one}
--          | {'busy'} | {'ended', state} | {'gone'}
local id, worker, nonce, lease_s = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local now = clock()
local call = redis.call('HMGET', KEYS[1], 'state', 'nonce', 'fence', 'attempts', 'call', 'accepted_at', 'deadline',
  'in_doubt', 'not_before', 'fallback_from', 'fallback_at')
local state = call[1]
local chain = { call[10] or '', redis.call('HEXISTS', KEYS[1], 'fallback:' .. (tonumber(call[11] or '0') + 1)) }
if not state then
  return { 'gone' }
end
if ended(state) then
  return { 'ended', state }
end
if state ~= 'accepted' then
  if call[2] == nonce then
    return { 'granted', call[3], call[4], call[5], call[6], stamp(now), call[7], call[8] or '', unpack(chain) }
  end
  return { 'busy' }
end
if tonumber(call[7]) <= now then
  return { 'ended', (end_unanswered(id, state, 'expired', now, 'deadline_passed',
    'the deadline passed while the call waited in its queue', true)) }
end
if call[9] and tonumber(call[9]) > now then
  return { 'busy' }  -- postponed: the sweep enqueues it when it is time
end
local fence, attempt = tonumber(call[3]) + 1, tonumber(call[4]) + 1
redis.call('HSET', KEYS[1], 'fence', fence, 'attempts', attempt, 'nonce', nonce, 'worker', worker,
  'started_at', stamp(now), 'lease_until', stamp(now + lease_s))
redis.call('HDEL', KEYS[1], 'effecting_at', 'not_before')
look_again(id, now + lease_s)
move(id, state, 'running', now)
return {
  'granted', tostring(fence), tostring(attempt), call[5], call[6], stamp(now), call[7], call[8] or '', unpack(chain),
}
