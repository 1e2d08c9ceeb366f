-- Which call runs for all who ask the same: the one that does already, when its answer will be as good as one's own.
-- It is not when something that it depends on has changed since it began, or when it is less urgent.
-- KEYS: flight
-- ARGV: call id, rank (lower is more urgent), lease (ms), a call that is not to be joined ('' for none, '*' for any)
-- Returns: {the id of the call that runs for all, '1' when it has said that its read began, else ''}
local id, rank, lease_ms, not_this = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local flight = redis.call('GET', KEYS[1])
if flight and not_this ~= '*' then
  local lines = {}
  for line in string.gmatch(flight, '[^\n]+') do
    lines[#lines + 1] = line
  end
  local joinable = lines[1] ~= not_this and tonumber(lines[2]) <= rank
  for i = 4, #lines, 2 do
    joinable = joinable and redis.call('GET', lines[i]) == lines[i + 1]
  end
  if joinable then
    return { lines[1], lines[3] and '1' or '' }
  end
end
redis.call('SET', KEYS[1], id .. '\n' .. ARGV[2], 'PX', lease_ms)
return { id, '' }
