-- cancel_job id  ->  ids of the jobs that are cancelled or told to stop: it, all that wait for it, and what nobody else
-- wants of that which those waited for
local stack = {read_name('job id')}

local cancelled, unneeded = {}, {}
local function add_all(list, ids)
  for _, id in ipairs(ids) do
    list[#list + 1] = id
  end
end

while #stack > 0 do
  local id = table.remove(stack)
  local state = field(id, 'state')
  if state == 'running' and not field(id, 'cancel') then
    redis.call('HSET', key('j', id), 'cancel', 1)
    cancelled[#cancelled + 1] = id
    add_all(stack, redis.call('SMEMBERS', key('p', id)))
  elseif state == 'queued' or state == 'waiting' then
    add_all(unneeded, redis.call('SMEMBERS', key('u', id)))
    add_all(stack, cancel_now(id))
    cancelled[#cancelled + 1] = id
  end
end
add_all(cancelled, cancel_unwanted(unneeded))
return cancelled
