-- Joins a call that runs already (broker's Redis): from now on nobody's cancelling stops it, and a channel hears of it.
-- KEYS: call
-- ARGV: tenant, channel
-- Returns: {state, result or '', accepted_at} | {} when there is nothing to join: no such call, or it is being cancelled
local call = redis.call('HMGET', KEYS[1], 'state', 'tenant', 'result', 'watch', 'accepted_at', 'cancel')
if not call[1] or call[2] ~= ARGV[1] or call[6] then
  return {}
end
if not ended(call[1]) then
  local watch = call[4] or ''
  if not string.find(' ' .. watch .. ' ', ' ' .. ARGV[2] .. ' ', 1, true) then
    redis.call('HSET', KEYS[1], 'watch', watch == '' and ARGV[2] or (watch .. ' ' .. ARGV[2]))
  end
  redis.call('HSET', KEYS[1], 'shared', '1')
end
return { call[1], call[3] or '', call[5] }
