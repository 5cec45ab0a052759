-- release worker failure max_releases  ->  {number of jobs, woken queues}
local worker = read_name('worker')
local failure = read_body('failure')
local max_releases = read_number('max_releases', 1, 1000000)

local released = 0
for _, id in ipairs(redis.call('ZRANGE', PREFIX .. 'lease', 0, -1)) do
  local job = redis.call('HMGET', key('j', id), 'state', 'worker', 'cancel')
  if job[1] == 'running' and job[2] == worker then
    released = released + 1
    if job[3] then
      cancel_now(id)
    -- Counted apart from attempts: a restart is no fault of the job, but a job that kills its worker must end too.
    elseif redis.call('HINCRBY', key('j', id), 'releases', 1) >= max_releases then
      fail(id, failure, '', now_ms())
    else
      redis.call('HINCRBY', key('j', id), 'attempt', -1)
      enqueue(id)
    end
  end
end
return {released, woken}
