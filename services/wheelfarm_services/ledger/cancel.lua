-- cancel request  ->  ids of the jobs that are cancelled or told to stop
local request = read_name('request id')

local function wanted(id)
  return redis.call('EXISTS', key('w', id), key('p', id)) > 0
end

local stack = redis.call('ZRANGE', key('r', request), 0, -1)
for _, id in ipairs(stack) do
  redis.call('SREM', key('w', id), request)
end
-- The list stays for as long as the cancelled jobs do, so that whoever watches the request sees its end.
redis.call('PEXPIRE', key('r', request), ENDED_KEPT_MS)

local cancelled = {}
while #stack > 0 do
  local id = table.remove(stack)
  local state = field(id, 'state')
  if state == 'running' and not field(id, 'cancel') and not wanted(id) then
    redis.call('HSET', key('j', id), 'cancel', 1)
    cancelled[#cancelled + 1] = id
  elseif (state == 'queued' or state == 'waiting') and not wanted(id) then
    local dependencies = redis.call('SMEMBERS', key('u', id))
    cancel_now(id)
    cancelled[#cancelled + 1] = id
    for _, dependency in ipairs(dependencies) do
      stack[#stack + 1] = dependency
    end
  end
end
return cancelled
