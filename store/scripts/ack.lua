-- Forgets tasks that have been seen to; a tenant that was at its limit gets its next one.
-- KEYS: unacked, unacked index, bell
-- ARGV: delivery tags
-- Returns: the number of tasks that were held
local queue, forgotten = queue_of(KEYS[1]), 0
for _, tag in ipairs(ARGV) do
  local list, tenant = let_go(KEYS[1], KEYS[2], tag)
  if list then
    forgotten = forgotten + 1
    let_next_in(queue, tenant)
  end
end
return forgotten
