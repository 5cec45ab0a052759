-- submit request priority force (id queue seconds spec)*  ->  {states, woken queues}
local request = read_name('request id')
local priority = read_number('priority', 0, 99)
local force = read_number('force', 0, 1) == 1
local submissions = read_submissions()

local forced_at = force and now_ms() or 0
local states = {}
for index, submission in ipairs(submissions) do
  local id = submission.id
  local state = field(id, 'state')
  local had = redis.call('ZSCORE', key('r', request), id)
  -- The same request again (a client's retry, the reconciler) must not start what was cancelled or failed for it.
  if force or not (had and (state == 'cancelled' or state == 'failed')) then
    state = demand(submission, priority, forced_at)
  end
  redis.call('ZADD', key('r', request), 'NX', index, id)
  if state == 'waiting' or state == 'queued' or state == 'running' then
    redis.call('SADD', key('w', id), request)
    redis.call('EXPIRE', key('w', id), REQUEST_KEPT_S)
  end
  states[#states + 1] = id
  states[#states + 1] = state
end
redis.call('EXPIRE', key('r', request), REQUEST_KEPT_S)
return {states, woken}
