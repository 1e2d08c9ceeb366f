-- Tells whoever follows a call what its operation says while it runs.
-- KEYS: call
-- ARGV: id, fence, nonce, then what is said (JSON), in order
-- Returns: '1' when somebody follows the call, else '0'
local call = redis.call('HMGET', KEYS[1], 'state', 'fence', 'nonce', 'watch')
if not call[4] or call[2] ~= ARGV[2] or call[3] ~= ARGV[3] then
  return '0'
end
local at = stamp(clock())
for place = 4, #ARGV do
  local news = ARGV[1] .. '\n' .. call[1] .. '!\n' .. at .. '\n' .. ARGV[place]
  for channel in string.gmatch(call[4], '%S+') do
    redis.call('PUBLISH', channel, news)
  end
end
return '1'
