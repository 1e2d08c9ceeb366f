-- Put before every script: the clock, the table of moves, and what happens whenever a call changes its state.
-- Scripts build the keys of calls from ids (`ts:call:<id>`): one Redis server, no cluster.

local DAY_S = 86400

local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1e6
end

local function stamp(seconds)
  return string.format('%.6f', seconds)
end

local MOVES = {
  accepted = { running = true, failed = true, cancelled = true, expired = true, unknown = true },
  running = {
    accepted = true, effecting = true, succeeded = true, failed = true, cancelled = true, expired = true, unknown = true,
  },
  effecting = { accepted = true, succeeded = true, failed = true, cancelled = true, unknown = true },
}

local function ended(state)
  return MOVES[state] == nil
end

local function call_key(id)
  return 'ts:call:' .. id
end

local function ring(bell)
  redis.call('LPUSH', bell, '1')
  redis.call('LTRIM', bell, 0, 0)
  redis.call('EXPIRE', bell, 60)
end

-- The sweep looks at the call again at `at`.
local function look_again(id, at)
  redis.call('ZADD', 'ts:due', at, id)
  redis.call('EXPIRE', 'ts:due', 7 * DAY_S)
end

local function tell(id, state, now, result, watch, reply)
  local news = id .. '\n' .. state .. '\n' .. stamp(now) .. '\n' .. (result or '')
  if watch then
    for channel in string.gmatch(watch, '%S+') do
      redis.call('PUBLISH', channel, news)
    end
  end
  if reply and ended(state) then
    redis.call('PUBLISH', reply, news)
  end
end

-- How long the sweep leaves a waiting call alone: a call for a session is looked after more often (see `sweep`).
local function patience_s(list)
  return string.find(list, '@', 1, true) and 1 or 10
end

local take_back_task  -- below

-- Moves a call on to a state that is not an end.
local function move(id, from, to, now)
  assert(MOVES[from] and MOVES[from][to], 'no move from ' .. from .. ' to ' .. to)
  redis.call('HSET', call_key(id), 'state', to)
  if to == 'accepted' then
    take_back_task(id)
  end
  local watch = redis.call('HGET', call_key(id), 'watch')
  if watch then
    tell(id, to, now, nil, watch, nil)
  end
end

local DEAD_S = 7 * DAY_S
local MOST_DEAD = 10000

-- Puts a call that somebody should look at on its tenant's list of dead letters, and keeps its record as long.
local function bury(id, tenant, now)
  local dead = 'ts:dead:' .. tenant
  redis.call('ZADD', dead, now, id)
  redis.call('ZREMRANGEBYSCORE', dead, '-inf', now - DEAD_S)
  redis.call('ZREMRANGEBYRANK', dead, 0, -MOST_DEAD - 1)
  redis.call('EXPIRE', dead, DEAD_S)
  redis.call('EXPIRE', call_key(id), DEAD_S)
end

-- Ends a call: result and state in one step, then everyone who waits is told. An unknown outcome, and a failure after
-- the last attempt (`dead`), are buried.
local function finish(id, from, to, now, result, dead)
  assert(MOVES[from] and MOVES[from][to], 'no move from ' .. from .. ' to ' .. to)
  local key = call_key(id)
  local call = redis.call('HMGET', key, 'watch', 'reply', 'tool', 'retention_s', 'idempotency', 'tenant')
  redis.call('HSET', key, 'state', to, 'result', result, 'ended_at', stamp(now))
  redis.call('HDEL', key, 'message', 'lease_until')
  redis.call('EXPIRE', key, call[4])
  if call[5] then
    redis.call('EXPIRE', call[5], call[4])
  end
  if dead or to == 'unknown' then
    bury(id, call[6], now)
  end
  redis.call('ZREM', 'ts:due', id)
  take_back_task(id)
  redis.call('HINCRBY', 'ts:counters', call[3] .. '|' .. to, 1)
  redis.call('EXPIRE', 'ts:counters', 30 * DAY_S)
  tell(id, to, now, result, call[1], call[2])
end

-- Fairness. Of each tenant at most `window` tasks lie in a list at once; the rest waits in the tenant's own line, and
-- the next one follows when one is taken. So a list, first in first out, serves all tenants in turn, in the proportion
-- of their windows, and whoever asks for little waits behind a few tasks of each other tenant, never behind all.
-- A tenant with a line lets in one task at a time (its weight): who asks for more than its turn gives way to small
-- bursts of the others, which go into the list whole.
local WINDOW = 4
local WAIT_S = 2 * DAY_S

local ALONE = '\022alone'

-- Tasks that run alone among their like (keys.alone_list).
local function is_alone_list(list)
  return string.sub(list, -#ALONE) == ALONE
end

local function line_key(list, tenant)
  return 'ts:line:' .. list .. ':' .. tenant
end

-- The window of a tenant, and the most of its tasks that may be held at once in one queue (nil: no limit).
local function share(tenant)
  local set = redis.call('HGET', 'ts:shares', tenant)
  if not set then
    return WINDOW, nil
  end
  local window, most = string.match(set, '(%d+) (%d+)')
  return tonumber(window), most ~= '0' and tonumber(most) or nil
end

local function count(key, field, by)
  local now = redis.call('HINCRBY', key, field, by)
  if now <= 0 then
    redis.call('HDEL', key, field)
    return 0
  end
  if by > 0 then
    redis.call('EXPIRE', key, WAIT_S)
  end
  return now
end

local function in_window(list, tenant)
  return tonumber(redis.call('HGET', 'ts:window:' .. list, tenant) or '0')
end

-- Puts a task into its tenant's line: at the end, or first again.
local function line_up(list, tenant, message, first)
  redis.call(first and 'RPUSH' or 'LPUSH', line_key(list, tenant), message)
  redis.call('EXPIRE', line_key(list, tenant), WAIT_S)
  redis.call('SADD', 'ts:lines:' .. list, tenant)
  redis.call('EXPIRE', 'ts:lines:' .. list, WAIT_S)
  count('ts:depth', list, 1)
end

-- Moves tasks from the tenant's line into the list, until as many as its weight lie there. Returns how many.
local function let_in(list, tenant)
  if redis.call('SISMEMBER', 'ts:lines:' .. list, tenant) == 0 then
    return 0
  end
  local window, moved = share(tenant), 0
  for _ = in_window(list, tenant) + 1, math.max(1, window / WINDOW) do
    local message = redis.call('RPOP', line_key(list, tenant))
    if not message then
      redis.call('SREM', 'ts:lines:' .. list, tenant)
      break
    end
    redis.call('LPUSH', list, message)
    count('ts:window:' .. list, tenant, 1)
    count('ts:depth', list, -1)
    moved = moved + 1
  end
  return moved
end

-- Puts a task at the front of its list once more: it has waited already.
local function put_first(list, tenant, message)
  redis.call('RPUSH', list, message)
  if tenant ~= '' then
    count('ts:window:' .. list, tenant, 1)
  end
end

-- What a worker holds: the list that it came from, the tenant, and the task.
local function held_fields(held)
  local list, tenant, message = string.match(held, '^([^\n]*)\n([^\n]*)\n(.*)$')
  return list, tenant, message
end

local function queue_of(unacked_key)
  return string.sub(unacked_key, #'ts:unacked:' + 1)
end

-- Takes a task away from the worker that holds it. Returns its list, tenant and message, or nothing.
local function let_go(unacked, index, tag)
  local held = redis.call('HGET', unacked, tag)
  redis.call('ZREM', index, tag)
  if not held then
    return nil
  end
  redis.call('HDEL', unacked, tag)
  local list, tenant, message = held_fields(held)
  if tenant ~= '' then
    count('ts:held:' .. queue_of(unacked), tenant, -1)
  end
  if is_alone_list(list) then
    count('ts:held:' .. queue_of(unacked), ALONE, -1)
  end
  return list, tenant, message
end

-- A tenant at its limit has one task less that is held: its next ones may come.
local function let_next_in(queue, tenant)
  local _, most = share(tenant)
  for _, step in ipairs(most and { '', '\6\0223', '\6\0226' } or {}) do
    if let_in(queue .. step, tenant) > 0 then
      ring('ts:bell:' .. queue)
    end
  end
end

-- When RabbitMQ carries the tasks (`take` with a bound marks their calls), a task counts as held from its release until
-- its call has ended or waits again. Then the next one is released.
function take_back_task(id)
  local call = redis.call('HMGET', call_key(id), 'carried', 'queue')
  if not call[1] then
    return
  end
  local list, tenant = let_go('ts:unacked:' .. call[2], 'ts:unacked_index:' .. call[2], id)
  if list then
    let_next_in(call[2], tenant)
    ring('ts:bell:' .. call[2])
  end
end

-- Puts the task of a call at the front of its queue once more.
local function enqueue_again(id)
  local call = redis.call('HMGET', call_key(id), 'message', 'list', 'bell', 'tenant')
  put_first(call[2], call[4], call[1])
  ring(call[3])
end

-- The result of a call that the ledger itself ends.
local function verdict(id, state, now, code, message, retryable, details)
  local call = redis.call('HMGET', call_key(id), 'tool', 'operation', 'worker', 'attempts', 'accepted_at')
  local meta = {
    tool = call[1],
    operation = call[2],
    attempts = tonumber(call[4] or '0'),
    accepted_at = tonumber(call[5]),
  }
  if call[3] then
    meta.worker = call[3]
  end
  local error = { code = code, message = message, retryable = retryable }
  if details then
    error.details = details
  end
  return cjson.encode({ id = id, status = state, error = error, meta = meta })
end

-- The ledger itself ends a call that nobody has answered. When an earlier attempt had begun its effect and nobody has
-- looked since whether it happened, only `unknown` is true. Returns the state and the result.
local function end_unanswered(id, from, to, now, code, message, retryable, details, dead)
  if redis.call('HGET', call_key(id), 'in_doubt') then
    to, code, retryable = 'unknown', 'outcome_unknown', false
    message = 'an attempt was lost after it had begun its effect, and then ' .. message .. ': look before you repeat it'
  end
  local result = verdict(id, to, now, code, message, retryable, details)
  finish(id, from, to, now, result, dead)
  return to, result
end
