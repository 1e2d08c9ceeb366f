-- Renews the leases of everything that one worker runs.
-- KEYS: none
-- ARGV: lease (s), then id, fence, nonce of each call
-- Returns: for each call 'ok' | 'cancel' (renewed, and somebody asked to stop it) | 'lost'
local now, lease_s = clock(), tonumber(ARGV[1])
local answers = {}
for place = 2, #ARGV, 3 do
  local id, fence, nonce = ARGV[place], ARGV[place + 1], ARGV[place + 2]
  local key = call_key(id)
  local call = redis.call('HMGET', key, 'state', 'fence', 'nonce', 'cancel')
  local answer = 'lost'
  if (call[1] == 'running' or call[1] == 'effecting') and call[2] == fence and call[3] == nonce then
    redis.call('HSET', key, 'lease_until', stamp(now + lease_s))
    look_again(id, now + lease_s)
    answer = call[4] and 'cancel' or 'ok'
  end
  answers[#answers + 1] = answer
end
return answers
