-- Looks at the calls that are due: expires, gives back, buries, or says that an outcome is unknown.
-- KEYS: none
-- ARGV: the most calls to look at, how long (s) a worker may be silent before its sessions are lost
-- Returns: pairs of id and what was done: 'expired' | 'cancelled' | 'given_back' | 'poison' | 'unknown' | 'enqueued'
--          | 'published_again' | 'due' (a postponed call is enqueued) | 'session_lost'
local now = clock()
local done = {}

local function note(id, what)
  done[#done + 1] = id
  done[#done + 1] = what
end

-- `tool.desktop@desktop-1` is a worker's own queue; its tasks are held under the tool's.
local function is_nowhere(id, queue, list, tenant)
  local held = string.match(queue, '^[^@]*')
  return redis.call('EXISTS', list, line_key(list, tenant)) == 0
    and redis.call('HEXISTS', 'ts:unacked:' .. held, id) == 0
    and redis.call('HEXISTS', 'ts:unacked:' .. queue, id) == 0
end

-- RabbitMQ was to carry the task, and nobody has claimed the call since: it may have been lost on its way, or wait there
-- behind others. It is published again, each time later: twice the same task does no harm, the second claim is refused.
local function is_overdue(id, queue, list)
  local call = redis.call('HMGET', call_key(id), 'carried', 'published_again')
  local released_at = call[1] and redis.call('ZSCORE', 'ts:unacked_index:' .. queue, id)
  return released_at and tonumber(released_at) < now - patience_s(list) / 2 * 2 ^ math.min(6, tonumber(call[2] or '0'))
end

local function is_session_lost(queue)
  local worker = string.match(queue, '@(.*)$')
  if not worker then
    return false
  end
  local seen_at = redis.call('HGET', 'ts:worker:' .. worker, 'seen_at')
  return not seen_at or tonumber(seen_at) < now - tonumber(ARGV[2])
end

-- One of the calls that were lost together may be what kills workers: they come back apart from each other, so that it
-- does not take the same others with it each time. The place within the pause follows from the random end of the id.
local function pause_s(id, attempts)
  local place = tonumber(string.sub(id, -4), 16) or 0
  return place / 65536 * 4 ^ (attempts - 1)
end

local function waits(id, call)
  local deadline, queue, not_before = tonumber(call[2]), call[12], tonumber(call[13])
  if deadline <= now then
    note(id, (end_unanswered(id, 'accepted', 'expired', now, 'deadline_passed',
      'the deadline passed while the call waited in its queue', true)))
  elseif is_session_lost(queue) then
    end_unanswered(id, 'accepted', 'failed', now, 'session_lost',
      'the worker that the session lived in is gone, and the session with it: start a new one', false)
    note(id, 'session_lost')
  elseif not_before and not_before > now then
    look_again(id, math.min(deadline, not_before))
  else
    if not_before then
      redis.call('HDEL', call_key(id), 'not_before')
      enqueue_again(id)
      note(id, 'due')
    elseif is_overdue(id, queue, call[14]) then
      redis.call('HINCRBY', call_key(id), 'published_again', 1)
      take_back_task(id)
      enqueue_again(id)
      note(id, 'published_again')
    elseif is_nowhere(id, queue, call[14], call[15]) then
      enqueue_again(id)
      note(id, 'enqueued')
    end
    look_again(id, math.min(deadline, now + patience_s(queue)))
  end
end

local function lost(id, call)
  local state, effect, attempts, most = call[1], call[3], tonumber(call[5]), tonumber(call[6])
  local begun = state == 'effecting' and effect ~= 'read' and effect ~= 'idempotent'
  local evidence = {
    worker = call[8], fence = tonumber(call[9]), started_at = tonumber(call[10]), lost_at = now,
    state_when_lost = state,
  }
  if begun and effect == 'verifiable' then
    redis.call('HSET', call_key(id), 'in_doubt', '1')
  end
  if begun and (effect ~= 'verifiable' or attempts >= most) then
    evidence.effecting_at = tonumber(call[11])
    finish(id, state, 'unknown', now, verdict(id, 'unknown', now, 'outcome_unknown',
      'the worker was lost after the operation had begun its effect: look before you repeat it', false, evidence))
    note(id, 'unknown')
  elseif call[7] and state == 'running' then
    note(id, (end_unanswered(id, state, 'cancelled', now, 'cancelled',
      'the call was cancelled, and its worker was lost', false, evidence)))
  elseif attempts >= most then
    evidence.attempts = attempts
    end_unanswered(id, state, 'failed', now, 'poison',
      'each of its attempts lost its worker: the call is not run again', false, evidence, true)
    note(id, 'poison')
  else
    local again_at = math.min(tonumber(call[2]), now + pause_s(id, attempts))
    redis.call('HDEL', call_key(id), 'nonce', 'lease_until')
    redis.call('HSET', call_key(id), 'not_before', stamp(again_at))
    if attempts == most - 1 then
      -- Its last attempt: no other suspect runs on the same worker, so that it is lost only by its own doing.
      redis.call('HSET', call_key(id), 'list', string.match(call[12], '^[^@]*') .. '\6\022alone')
    end
    move(id, state, 'accepted', now)
    look_again(id, again_at)
    note(id, 'given_back')
  end
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', 'ts:due', '-inf', now, 'LIMIT', 0, tonumber(ARGV[1]))) do
  local call = redis.call('HMGET', call_key(id), 'state', 'deadline', 'effect', 'lease_until', 'attempts',
    'max_attempts', 'cancel', 'worker', 'fence', 'started_at', 'effecting_at', 'queue', 'not_before', 'list', 'tenant')
  local state = call[1]
  if not state or ended(state) then
    redis.call('ZREM', 'ts:due', id)
  elseif state == 'accepted' then
    waits(id, call)
  elseif tonumber(call[4]) > now then
    look_again(id, tonumber(call[4]))
  else
    lost(id, call)
  end
end
redis.call('EXPIRE', 'ts:chains', 30 * DAY_S)
return done
