-- A read begins: tells the generations of the tags that its answer will depend on, and lets those who ask the same in
-- the meantime see whether they may still join it.
-- KEYS: flight, then the generations
-- ARGV: call id, seed (random text), for how long generations are kept (s): twice as long as any answer
-- Returns: {now, generation, …}; a generation with a space in it is being changed
-- A generation is a text that is never used twice; behind it ` ID=UNTIL` for each call that changes what has the tag.
local id, seed, keep_s, now = ARGV[1], ARGV[2], tonumber(ARGV[3]), clock()
local found, lines = { stamp(now) }, { 'begun' }
for i = 2, #KEYS do
  local key = KEYS[i]
  local value = redis.call('GET', key)
  local kept, lapsed = value, false
  if value then
    for holder in string.gmatch(value, ' (%S+)') do
      if tonumber(string.match(holder, '=(.+)$')) <= now then
        lapsed = true  -- it never said how it ended
      end
    end
  end
  if not value or lapsed then
    kept = stamp(now) .. '-' .. seed
    for holder in string.gmatch(value or '', ' (%S+)') do
      if tonumber(string.match(holder, '=(.+)$')) > now then
        kept = kept .. ' ' .. holder
      end
    end
    redis.call('SET', key, kept, 'EX', math.ceil(keep_s))
  elseif redis.call('PTTL', key) < keep_s * 500 then  -- seldom: whoever remembers what has the tag hears of it
    redis.call('EXPIRE', key, math.ceil(keep_s))
  end
  found[#found + 1] = kept
  lines[#lines + 1] = key .. '\n' .. kept
end
local flight = redis.call('GET', KEYS[1])
if flight and string.match(flight, '^[^\n]+') == id then
  local rank, left_ms = string.match(flight, '^[^\n]+\n([^\n]+)'), redis.call('PTTL', KEYS[1])
  if left_ms > 0 then
    redis.call('SET', KEYS[1], id .. '\n' .. rank .. '\n' .. table.concat(lines, '\n'), 'PX', left_ms)
  end
end
return found
