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

-- Moves a call on to a state that is not an end.
local function move(id, from, to, now)
  assert(MOVES[from] and MOVES[from][to], 'no move from ' .. from .. ' to ' .. to)
  redis.call('HSET', call_key(id), 'state', to)
  local watch = redis.call('HGET', call_key(id), 'watch')
  if watch then
    tell(id, to, now, nil, watch, nil)
  end
end

-- Ends a call: result and state in one step, then everyone who waits is told.
local function finish(id, from, to, now, result)
  assert(MOVES[from] and MOVES[from][to], 'no move from ' .. from .. ' to ' .. to)
  local key = call_key(id)
  local call = redis.call('HMGET', key, 'watch', 'reply', 'tool', 'retention_s', 'idempotency')
  redis.call('HSET', key, 'state', to, 'result', result, 'ended_at', stamp(now))
  redis.call('HDEL', key, 'message', 'lease_until')
  redis.call('EXPIRE', key, call[4])
  if call[5] then
    redis.call('EXPIRE', call[5], call[4])
  end
  redis.call('ZREM', 'ts:due', id)
  redis.call('HINCRBY', 'ts:counters', call[3] .. '|' .. to, 1)
  redis.call('EXPIRE', 'ts:counters', 30 * DAY_S)
  tell(id, to, now, result, call[1], call[2])
end

-- Puts the task of a call at the front of its queue once more.
local function enqueue_again(id)
  local call = redis.call('HMGET', call_key(id), 'message', 'list', 'bell')
  redis.call('RPUSH', call[2], call[1])
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
local function end_unanswered(id, from, to, now, code, message, retryable, details)
  if redis.call('HGET', call_key(id), 'in_doubt') then
    to, code, retryable = 'unknown', 'outcome_unknown', false
    message = 'an attempt was lost after it had begun its effect, and then ' .. message .. ': look before you repeat it'
  end
  local result = verdict(id, to, now, code, message, retryable, details)
  finish(id, from, to, now, result)
  return to, result
end
