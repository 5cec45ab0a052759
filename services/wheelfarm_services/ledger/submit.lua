-- submit request share priority force alive_ms trace (id queue subject seconds spec)*  ->  {states, woken queues}
local request = read_name('request id')
local share = read_body('share')
if not string.find(share, '^[%w._-]*$') or #share > 100 then
  refuse('share must be letters, digits, dots, dashes and underscores, at most 100')
end
local priority = read_number('priority', 0, 99)
local force = read_number('force', 0, 1) == 1
local alive_ms = read_duration_ms('alive')
local trace = read_trace()
local submissions = read_submissions()

local forced_at = force and now_ms() or 0
local flow = flow_of(request, share)
local states = {}
-- What this request finds of what it asks for, unless it asks for it again.
local function note(outcome)
  redis.call('HINCRBY', PREFIX .. 'lookups', outcome, 1)
end
for index, submission in ipairs(submissions) do
  local id = submission.id
  local state = field(id, 'state')
  local had = redis.call('ZSCORE', key('r', request), id)
  -- The same request again (a client's retry, the reconciler) must not start what was cancelled or failed for it.
  if force or not (had and (state == 'cancelled' or state == 'failed')) then
    local before = state
    state = demand(submission, priority, forced_at, flow, trace)
    if not had then
      note(LIVE[before] and 'coalesced' or LIVE[state] and 'miss' or 'hit')
    end
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
if alive_ms > 0 then
  redis.call('ZADD', PREFIX .. 'alive', now_ms() + alive_ms, request)
end
return {states, woken}
