-- Looks at the calls that are due: expires, gives back, buries, or says that an outcome is unknown.
-- KEYS: none
-- ARGV: the most calls to look at
-- Returns: pairs of id and what was done: 'expired' | 'cancelled' | 'given_back' | 'poison' | 'unknown' | 'enqueued'
local now = clock()
local done = {}

local function note(id, what)
  done[#done + 1] = id
  done[#done + 1] = what
end

local function is_nowhere(id, queue)
  local waiting = redis.call('LLEN', queue) + redis.call('LLEN', queue .. '\6\0223')
    + redis.call('LLEN', queue .. '\6\0226')
  return waiting == 0 and redis.call('HEXISTS', 'ts:unacked:' .. queue, id) == 0
end

local function lost(id, call)
  local state, effect, attempts, most = call[1], call[3], tonumber(call[5]), tonumber(call[6])
  local again = state == 'running' or effect == 'read' or effect == 'idempotent'
  local evidence = {
    worker = call[8], fence = tonumber(call[9]), started_at = tonumber(call[10]), lost_at = now,
    state_when_lost = state,
  }
  if not again then
    evidence.effecting_at = tonumber(call[11])
    finish(id, state, 'unknown', now, verdict(id, 'unknown', now, 'outcome_unknown',
      'the worker was lost after the operation had begun its effect: look before you repeat it', false, evidence))
    note(id, 'unknown')
  elseif call[7] and state == 'running' then
    finish(id, state, 'cancelled', now,
      verdict(id, 'cancelled', now, 'cancelled', 'the call was cancelled, and its worker was lost', false, evidence))
    note(id, 'cancelled')
  elseif attempts >= most then
    evidence.attempts = attempts
    finish(id, state, 'failed', now, verdict(id, 'failed', now, 'poison',
      'each of its attempts lost its worker: the call is not run again', false, evidence))
    note(id, 'poison')
  else
    redis.call('HDEL', call_key(id), 'nonce', 'lease_until')
    move(id, state, 'accepted', now)
    look_again(id, math.min(tonumber(call[2]), now + 10))
    enqueue_again(id)
    note(id, 'given_back')
  end
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', 'ts:due', '-inf', now, 'LIMIT', 0, tonumber(ARGV[1]))) do
  local call = redis.call('HMGET', call_key(id), 'state', 'deadline', 'effect', 'lease_until', 'attempts',
    'max_attempts', 'cancel', 'worker', 'fence', 'started_at', 'effecting_at', 'queue')
  local state = call[1]
  if not state or ended(state) then
    redis.call('ZREM', 'ts:due', id)
  elseif state == 'accepted' then
    if tonumber(call[2]) <= now then
      finish(id, state, 'expired', now, verdict(id, 'expired', now, 'deadline_passed',
        'the deadline passed while the call waited in its queue', true))
      note(id, 'expired')
    else
      if is_nowhere(id, call[12]) then
        enqueue_again(id)
        note(id, 'enqueued')
      end
      look_again(id, math.min(tonumber(call[2]), now + 10))
    end
  elseif tonumber(call[4]) > now then
    look_again(id, tonumber(call[4]))
  else
    lost(id, call)
  end
end
return done
