-- Accepts a call and enqueues its task in one step: it is durable before anyone is told so. Safe to repeat.
-- KEYS: call, idempotency (the call's key again when there is none), list of the queue, bell of the queue
-- ARGV: id, request hash, deadline (Unix seconds, or '' for the default), default deadline (s), retention (s),
--       message, then pairs of further fields
-- Returns: {'accepted' | 'joined', id, state, result or '', accepted_at} or {'conflict', id}
local id, hash, deadline, default_s, retention_s, message = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local now = clock()

local known = id
if KEYS[2] ~= KEYS[1] then
  known = redis.call('GET', KEYS[2]) or id
end
local there = redis.call('HMGET', call_key(known), 'state', 'result', 'hash', 'accepted_at')
if there[1] then
  if there[3] ~= hash then
    return { 'conflict', known }
  end
  return { 'joined', known, there[1], there[2] or '', there[4] }
end

local ends_at = tonumber(deadline) or (now + tonumber(default_s))
local keep_s = math.max(1, math.ceil(ends_at - now)) + tonumber(retention_s)
redis.call('HSET', KEYS[1], 'state', 'accepted', 'hash', hash, 'deadline', stamp(ends_at), 'accepted_at', stamp(now),
  'attempts', 0, 'fence', 0, 'retention_s', retention_s, 'message', message, 'list', KEYS[3], 'bell', KEYS[4],
  unpack(ARGV, 7))
redis.call('EXPIRE', KEYS[1], keep_s)
if KEYS[2] ~= KEYS[1] then
  redis.call('HSET', KEYS[1], 'idempotency', KEYS[2])
  redis.call('SET', KEYS[2], id, 'EX', keep_s)
end
look_again(id, math.min(ends_at, now + patience_s(KEYS[3])))
redis.call('LPUSH', KEYS[3], message)
ring(KEYS[4])
return { 'accepted', id, 'accepted', '', stamp(now) }
