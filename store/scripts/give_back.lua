-- Returns tasks that a worker holds to the front of their lists.
-- KEYS: unacked, unacked index, bell
-- ARGV: delivery tags
-- Returns: the number of tasks returned
local returned = 0
for _, tag in ipairs(ARGV) do
  local list, tenant, message = let_go(KEYS[1], KEYS[2], tag)
  if list then
    put_first(list, tenant, message)
    returned = returned + 1
  end
end
if returned > 0 then
  ring(KEYS[3])
end
return returned
