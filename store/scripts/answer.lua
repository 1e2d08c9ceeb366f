-- Puts an answer on a caller's list, once per request.
-- KEYS: mark of the request, list of answers
-- ARGV: answer (JSON), expiry of the mark (s), expiry of the list (s)
-- Returns: 1 when it was put there, 0 when the request had been answered before
if not redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[2]) then
  return 0
end
redis.call('RPUSH', KEYS[2], ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[3])
return 1
