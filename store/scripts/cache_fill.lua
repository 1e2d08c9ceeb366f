-- Keeps an answer, unless what it depends on has changed since its read began, or one that was read later is there.
-- KEYS: entry, flight, then the generations
-- ARGV: call id, entry (its first 8 bytes order entries by when their reads began), life (ms), then the generations as
--       the read found them
-- Returns: 'ok' | 'changed' | 'older'
local id, entry, life_ms = ARGV[1], ARGV[2], ARGV[3]
local flight = redis.call('GET', KEYS[2])
if flight and string.match(flight, '^[^\n]+') == id then
  redis.call('DEL', KEYS[2])
end
for i = 3, #KEYS do
  if redis.call('GET', KEYS[i]) ~= ARGV[i + 1] then
    return 'changed'
  end
end
local there = redis.call('GETRANGE', KEYS[1], 0, 7)
if there ~= '' and there > string.sub(entry, 1, 8) then
  return 'older'
end
redis.call('SET', KEYS[1], entry, 'PX', life_ms)
return 'ok'
