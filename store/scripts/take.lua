-- Takes tasks from a worker's queues and holds them for it in the same step (kombu's BRPOP, then ZADD, can lose one).
-- KEYS: unacked, unacked index, bell, then the lists, highest priority first
-- ARGV: the most tasks to take; of a list of tasks that run alone (keys.alone_list) one is taken at most;
--       and when they go to RabbitMQ, the most that may be held in all: tasks whose calls do not wait are dropped then
-- Returns: pairs of list key and message
local room = tonumber(ARGV[1])
local now = clock()
local bound = tonumber(ARGV[2] or '')
if bound then
  room = math.min(room, bound - redis.call('HLEN', KEYS[1]))
end
local held_key = 'ts:held:' .. queue_of(KEYS[1])
local taken = {}

local function tenant_of(task)
  local headers = task.headers
  local envelope = type(headers) == 'table' and headers.toolswarm
  local tenant = type(envelope) == 'table' and envelope.tenant
  return type(tenant) == 'string' and not string.find(tenant, '\n', 1, true) and tenant or ''
end

local function is_at_its_limit(tenant)
  local _, most = share(tenant)
  return most and tonumber(redis.call('HGET', held_key, tenant) or '0') >= most
end

-- The list is empty. When lines are not (their tenants were at their limits, or somebody purged the list), it is filled.
local function refill(list)
  local moved = 0
  for _, tenant in ipairs(redis.call('SMEMBERS', 'ts:lines:' .. list)) do
    if not is_at_its_limit(tenant) then
      redis.call('HDEL', 'ts:window:' .. list, tenant)
      moved = moved + let_in(list, tenant)
    end
  end
  return moved > 0
end

-- Nobody would let go of it again: its call has ended, or it was enqueued twice.
local function is_needless(tag)
  return redis.call('HGET', call_key(tag), 'state') ~= 'accepted' or redis.call('HEXISTS', KEYS[1], tag) == 1
end

local function is_shut(list)
  return bound and is_alone_list(list) and redis.call('HEXISTS', held_key, ALONE) == 1
end

local function hold(list, tenant, task, message)
  local tag = task.properties.delivery_tag
  redis.call('HSET', KEYS[1], tag, list .. '\n' .. tenant .. '\n' .. message)
  redis.call('ZADD', KEYS[2], now, tag)
  if tenant ~= '' then
    count(held_key, tenant, 1)
  end
  if is_alone_list(list) then
    count(held_key, ALONE, 1)
  end
  if bound then
    redis.call('HSET', call_key(tag), 'carried', '1')
  end
  taken[#taken + 1] = list
  taken[#taken + 1] = message
  room = room - 1
end

for place = 4, #KEYS do
  local list, before = KEYS[place], #taken
  local alone = is_alone_list(list)
  while room > 0 and not (alone and #taken > before) and not is_shut(list) do
    local message = redis.call('RPOP', list)
    if message then
      local task = cjson.decode(message)
      local tenant = tenant_of(task)
      if bound and is_needless(task.properties.delivery_tag) then
        if tenant ~= '' then
          count('ts:window:' .. list, tenant, -1)
          let_in(list, tenant)
        end
      elseif tenant == '' then
        hold(list, tenant, task, message)
      else
        count('ts:window:' .. list, tenant, -1)
        if is_at_its_limit(tenant) then
          line_up(list, tenant, message, true)
        else
          hold(list, tenant, task, message)
          let_in(list, tenant)
        end
      end
    elseif not refill(list) then
      break
    end
  end
end
-- Tasks are left and one worker was woken by one bell: wake the next.
local is_full = bound and redis.call('HLEN', KEYS[1]) >= bound
for place = 4, #KEYS do
  if not is_full and not is_shut(KEYS[place]) and redis.call('EXISTS', KEYS[place]) == 1 then
    ring(KEYS[3])
    break
  end
end
return taken
