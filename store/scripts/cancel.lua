-- Asks that a call stop: one that waits is cancelled here, a running one is stopped by its worker at the next renewal.
-- A call that others have joined goes on.
-- KEYS: call
-- ARGV: id, tenant
-- Returns: {state, result or ''} | {} when the tenant has no such call
local id = ARGV[1]
local call = redis.call('HMGET', KEYS[1], 'state', 'tenant', 'result', 'shared')
if not call[1] or call[2] ~= ARGV[2] then
  return {}
end
if call[4] then
  return { call[1], call[3] or '' }
end
if call[1] == 'accepted' then
  local now = clock()
  return { end_unanswered(id, 'accepted', 'cancelled', now, 'cancelled', 'the call was cancelled before it ran', false) }
end
if not ended(call[1]) then
  redis.call('HSET', KEYS[1], 'cancel', '1')
end
return { call[1], call[3] or '' }
