-- Records that the point of no return comes next. Safe to repeat.
-- KEYS: call
-- ARGV: id, fence, nonce
-- Returns: 'ok' | 'cancel' (somebody asked to stop) | 'lost' (another attempt holds the call, or it has ended)
local id, fence, nonce = ARGV[1], ARGV[2], ARGV[3]
local call = redis.call('HMGET', KEYS[1], 'state', 'fence', 'nonce', 'cancel')
if call[2] ~= fence or call[3] ~= nonce then
  return 'lost'
end
if call[1] == 'effecting' then
  return 'ok'
end
if call[1] ~= 'running' then
  return 'lost'
end
if call[4] then
  return 'cancel'
end
local now = clock()
redis.call('HSET', KEYS[1], 'effecting_at', stamp(now))
move(id, 'running', 'effecting', now)
return 'ok'
