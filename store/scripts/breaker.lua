-- The circuit breaker of one target: closed, open, half-open; shared by all workers.
-- KEYS: breaker, board of the breakers that are not closed
-- ARGV: 'ask' | 'failed' | 'passed', failures that open it, seconds until the first try, the longest, name on the board
-- Returns: {'go'} | {'try'} (half-open: this caller is the one that tries) | {'open', seconds to wait}
--          and for what was reported: {'closed' | 'open' | 'half-open'}
local what, threshold, reset_s, longest_s, name = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local KEEP_S = 600
local now = clock()
local breaker = redis.call('HMGET', KEYS[1], 'failures', 'opened', 'until', 'trying_until')
local failures, opened = tonumber(breaker[1] or '0'), tonumber(breaker[2] or '0')
local open_until, trying_until = tonumber(breaker[3] or '0'), tonumber(breaker[4] or '0')

local function keep()
  redis.call('EXPIRE', KEYS[1], KEEP_S)
  redis.call('ZADD', KEYS[2], now, name)
  redis.call('EXPIRE', KEYS[2], KEEP_S)
end

if what == 'ask' then
  if opened == 0 then
    return { 'go' }
  end
  if now < open_until then
    return { 'open', stamp(open_until - now) }
  end
  if now < trying_until then
    return { 'open', stamp(trying_until - now) }
  end
  redis.call('HSET', KEYS[1], 'trying_until', stamp(now + reset_s))
  keep()
  return { 'try' }
end
if what == 'passed' then
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[2], name)
  return { 'closed' }
end
if opened > 0 and now < open_until then
  return { 'open' }  -- an attempt that had begun before it opened
end
failures = failures + 1
redis.call('HSET', KEYS[1], 'failures', failures)
if opened > 0 or failures >= threshold then
  local pause_s = math.min(longest_s, reset_s * 2 ^ opened)
  redis.call('HSET', KEYS[1], 'opened', opened + 1, 'until', stamp(now + pause_s))
  redis.call('HDEL', KEYS[1], 'trying_until')
  keep()
  return { 'open' }
end
keep()
return { opened > 0 and 'half-open' or 'closed' }
