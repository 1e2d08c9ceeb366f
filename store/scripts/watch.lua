-- Reads a call and, while it has not ended, lets a channel hear of all that follows.
-- KEYS: call
-- ARGV: tenant, channel
-- Returns: {state, result or '', accepted_at, time of the last change} | {} when the tenant has no such call
local call = redis.call('HMGET', KEYS[1], 'state', 'tenant', 'result', 'watch', 'accepted_at', 'started_at', 'ended_at')
if not call[1] or call[2] ~= ARGV[1] then
  return {}
end
if not ended(call[1]) then
  local watch = call[4] or ''
  if not string.find(' ' .. watch .. ' ', ' ' .. ARGV[2] .. ' ', 1, true) then
    redis.call('HSET', KEYS[1], 'watch', watch == '' and ARGV[2] or (watch .. ' ' .. ARGV[2]))
  end
end
return { call[1], call[3] or '', call[5], call[7] or call[6] or call[5] }
