-- The cache Redis was told of these tags (broker's Redis): strikes off those that were not owed once more since.
-- KEYS: owed tags
-- ARGV: pairs of what is owed and since when, as they were read
-- Returns: how many were struck off
local struck = 0
for i = 1, #ARGV, 2 do
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    struck = struck + redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
return struck
