-- What has the tags changes: from `begin` to `end` no remembered answer under them is used or made, and after `end` none
-- from before; an `end` may come without a beginning. Whoever begins and never ends is forgotten after a while.
-- KEYS: generations
-- ARGV: 'begin' | 'end', call id (no spaces, no `=`; or ''), seed (random text), for how long the change may take (s),
--       for how long generations are kept at least (s)
-- Returns: 'ok'
local what, id, seed, hold_s, keep_s, now = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), clock()
for _, key in ipairs(KEYS) do
  local value = redis.call('GET', key)
  -- First of all: an answer whose generation is gone is not used, and a full server refuses only what adds to it.
  redis.call('DEL', key)
  local kept, until_at = stamp(now) .. '-' .. seed, now + keep_s
  for holder, at in string.gmatch(value or '', ' (%S+)=(%S+)') do
    if holder ~= id and tonumber(at) > now then
      kept = kept .. ' ' .. holder .. '=' .. at
      until_at = math.max(until_at, tonumber(at))
    end
  end
  if what == 'begin' then
    kept = kept .. ' ' .. id .. '=' .. stamp(now + hold_s)
    until_at = math.max(until_at, now + hold_s)
  end
  redis.call('SET', key, kept, 'EX', math.ceil(until_at - now))
end
return 'ok'
