-- Accepts a call and enqueues its task in one step: it is durable before anyone is told so. Safe to repeat.
-- KEYS: call, idempotency (the call's key again when there is none), list of the queue, bell of the queue
-- ARGV: id, request hash, deadline (Unix seconds, or '' for the default), default deadline (s), retention (s),
--       message, tenant, the tenant's window, the most of its tasks that are held at once (0: no limit), the most that
--       wait of one tenant, the most that wait in the list, then pairs of further fields
-- Returns: {'accepted' | 'joined', id, state, result or '', accepted_at} or {'conflict', id}
--          or {'full', 'tenant' | 'queue', how many wait}: nothing was accepted
local id, hash, deadline, default_s, retention_s, message = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local tenant, window, most_held = ARGV[7], tonumber(ARGV[8]), ARGV[9]
local most_of_tenant, most_in_list = tonumber(ARGV[10]), tonumber(ARGV[11])
local list, now = KEYS[3], clock()

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

local own_line = redis.call('LLEN', line_key(list, tenant))
local own_window = in_window(list, tenant)
if own_line + own_window >= most_of_tenant then
  return { 'full', 'tenant', own_line + own_window }
end
local all = redis.call('LLEN', list) + tonumber(redis.call('HGET', 'ts:depth', list) or '0')
if all >= most_in_list then
  return { 'full', 'queue', all }
end

local ends_at = tonumber(deadline) or (now + tonumber(default_s))
local keep_s = math.max(1, math.ceil(ends_at - now)) + tonumber(retention_s)
redis.call('HSET', KEYS[1], 'state', 'accepted', 'hash', hash, 'deadline', stamp(ends_at), 'accepted_at', stamp(now),
  'attempts', 0, 'fence', 0, 'retention_s', retention_s, 'message', message, 'list', KEYS[3], 'bell', KEYS[4],
  'tenant', tenant, unpack(ARGV, 12))
redis.call('EXPIRE', KEYS[1], keep_s)
if KEYS[2] ~= KEYS[1] then
  redis.call('HSET', KEYS[1], 'idempotency', KEYS[2])
  redis.call('SET', KEYS[2], id, 'EX', keep_s)
end
look_again(id, math.min(ends_at, now + patience_s(KEYS[3])))
if window ~= WINDOW or most_held ~= '0' then
  redis.call('HSET', 'ts:shares', tenant, window .. ' ' .. most_held)
  redis.call('EXPIRE', 'ts:shares', WAIT_S)
elseif redis.call('EXISTS', 'ts:shares') == 1 then
  redis.call('HDEL', 'ts:shares', tenant)
end
if own_line > 0 or own_window >= window then
  line_up(list, tenant, message, false)
else
  redis.call('LPUSH', list, message)
  count('ts:window:' .. list, tenant, 1)
end
ring(KEYS[4])
return { 'accepted', id, 'accepted', '', stamp(now) }
