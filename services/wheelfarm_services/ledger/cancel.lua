-- cancel request  ->  ids of the jobs that are cancelled or told to stop
local request = read_name('request id')

local ids = redis.call('ZRANGE', key('r', request), 0, -1)
for _, id in ipairs(ids) do
  redis.call('SREM', key('w', id), request)
end
-- The list stays for as long as the cancelled jobs do, so that whoever watches the request sees its end.
redis.call('ZREM', PREFIX .. 'alive', request)
redis.call('PEXPIRE', key('r', request), ENDED_KEPT_MS)
return cancel_unwanted(ids)
