-- The moves of a job, and what they do to those that wait for it. It stands after lines.lua.

local IMPACT_WALK = 5000
local COUNTED_PARENTS = 4

local LIVE = {queued = true, running = true, waiting = true}

-- Sets the state, counts it and tells of it. A count is of the jobs in that state, of a final one of those that came to it.
local function move_to(id, state)
  local job = redis.call('HMGET', key('j', id), 'state', 'queue')
  if LIVE[job[1]] then
    redis.call('HINCRBY', PREFIX .. 'count', job[1] .. ' ' .. job[2], -1)
  end
  redis.call('HINCRBY', PREFIX .. 'count', state .. ' ' .. job[2], 1)
  redis.call('HSET', key('j', id), 'state', state)
  redis.call('XADD', PREFIX .. 'ev', 'MAXLEN', '~', EVENTS_KEPT, '*', 'job', id, 'state', state)
end

local function drop_unfinished_edges(id)
  for _, dependency in ipairs(redis.call('SMEMBERS', key('u', id))) do
    redis.call('SREM', key('p', dependency), id)
  end
  redis.call('DEL', key('u', id))
end

local function drop_claim(id)
  redis.call('ZREM', PREFIX .. 'lease', id)
  redis.call('HDEL', key('j', id), 'fence', 'worker', 'cancel')
end

-- Lets a job be claimed, after a pause where there is one.
local function enqueue(id, pause_ms)
  drop_claim(id)
  leave_queue(id)
  redis.call('SREM', PREFIX .. 'waiting', id)
  redis.call('HSET', key('j', id), 'queued_at', now_ms(), 'place', redis.call('INCR', PREFIX .. 'place'))
  if pause_ms and pause_ms > 0 then
    redis.call('ZADD', PREFIX .. 'delayed', now_ms() + pause_ms, id)
  else
    join_queue(id)
  end
  move_to(id, 'queued')
end

-- Ends a job in `state` with further fields; gives the jobs that waited for it.
local function finish(id, state, kept_ms, ...)
  local parents = redis.call('SMEMBERS', key('p', id))
  leave_queue(id)
  redis.call('ZREM', PREFIX .. 'delayed', id)
  redis.call('ZREM', PREFIX .. 'lease', id)
  redis.call('SREM', PREFIX .. 'waiting', id)
  drop_unfinished_edges(id)
  redis.call('DEL', key('p', id), key('w', id))
  redis.call('HDEL', key('j', id), 'fence', 'cancel', 'failure', 'cause', 'remembered_until')
  redis.call('HSET', key('j', id), 'finished_at', now_ms(), ...)
  redis.call('PEXPIRE', key('j', id), kept_ms)
  redis.call('PEXPIRE', key('d', id), kept_ms)
  move_to(id, state)
  return parents
end

-- Queues a waiting job before what it waits for is done: its next claim plans again.
local function wake_early(id)
  drop_unfinished_edges(id)
  enqueue(id)
end

-- Fails a job and all that wait for it, up to the roots, but for tolerant ones: they ask again, find the failure, and may
-- do without. A stack, since chains are longer than Lua's recursion goes.
local function fail(first, failure, cause, remembered_until)
  local kept_ms = math.max(ENDED_KEPT_MS, remembered_until - now_ms())
  local root = cause ~= '' and cause or first
  local stack = {first}
  while #stack > 0 do
    local id = table.remove(stack)
    local is_first = id == first
    -- In a diamond the same job is met on two paths; the second time it is not waiting any more.
    if is_first or field(id, 'state') == 'waiting' then
      local parents = finish(id, 'failed', kept_ms, 'failure', is_first and failure or '',
        'cause', is_first and cause or root, 'remembered_until', remembered_until)
      for _, parent in ipairs(parents) do
        if field(parent, 'tolerant') and field(parent, 'state') == 'waiting' then
          wake_early(parent)
        else
          stack[#stack + 1] = parent
        end
      end
    end
  end
end

-- Gives the jobs that waited for it.
local function cancel_now(id)
  return finish(id, 'cancelled', ENDED_KEPT_MS)
end

-- Cancels those of the jobs in `stack` that no request and no other job wants, and what they alone waited for.
local function cancel_unwanted(stack)
  local cancelled = {}
  while #stack > 0 do
    local id = table.remove(stack)
    local state = field(id, 'state')
    local wanted = redis.call('EXISTS', key('w', id), key('p', id)) > 0
    if state == 'running' and not field(id, 'cancel') and not wanted then
      redis.call('HSET', key('j', id), 'cancel', 1)
      cancelled[#cancelled + 1] = id
    elseif (state == 'queued' or state == 'waiting') and not wanted then
      local dependencies = redis.call('SMEMBERS', key('u', id))
      cancel_now(id)
      cancelled[#cancelled + 1] = id
      for _, dependency in ipairs(dependencies) do
        stack[#stack + 1] = dependency
      end
    end
  end
  return cancelled
end

-- Why the claim is not (any more) the one that holds the job: 'unknown', 'lost', or nil when it does hold it.
local function lapse_of_claim(id, fence)
  local job = redis.call('HMGET', key('j', id), 'state', 'fence')
  if not job[1] then
    return 'unknown'
  end
  if job[1] ~= 'running' or job[2] ~= fence then
    return 'lost'
  end
end

-- True when the answer of a finished job still counts. A failure that is older than the wish to try again does not.
local function stands(id, forced_at)
  local job = redis.call('HMGET', key('j', id), 'state', 'finished_at', 'remembered_until')
  if job[1] == 'failed' then
    return tonumber(job[3]) > now_ms() and tonumber(job[2]) > forced_at
  end
  return job[1] == 'done'
end

-- Seconds that a job is expected to take: as its like took, as was guessed, or as most do.
local function expected_seconds(submission)
  local seconds = submission.subject ~= '' and redis.call('HGET', PREFIX .. 'seconds', submission.subject)
    or submission.seconds > 0 and submission.seconds
    or USUAL_SECONDS
  return math.min(MOST_IMPACT, tonumber(seconds))
end

-- p:<id> is left alone: when Redis lost the job but not its edges, its parents still wait for it.
local function begin(submission, priority, forced_at, flows, trace)
  local id = submission.id
  local weight = expected_seconds(submission)
  drop_unfinished_edges(id)
  redis.call('DEL', key('d', id))
  redis.call('HDEL', key('j', id), 'result', 'failure', 'cause', 'remembered_until', 'started_at', 'finished_at',
    'tolerant', 'asked_at', 'trace')
  redis.call('HSET', key('j', id), 'queue', submission.queue, 'spec', submission.spec, 'subject', submission.subject,
    'priority', priority, 'flows', flows, 'attempt', 0, 'releases', 0, 'forced_at', forced_at,
    'weight', weight, 'impact', weight)
  if trace ~= '' then
    redis.call('HSET', key('j', id), 'trace', trace)
  end
  redis.call('PERSIST', key('j', id))
  enqueue(id)
end

-- Inheritance: what an urgent job waits for is as urgent, and what a request wants of it is wanted of that, too.
local function inherit(first, priority, flows)
  local stack = {first}
  while #stack > 0 do
    local id = table.remove(stack)
    local job = redis.call('HMGET', key('j', id), 'priority', 'flows', 'queue')
    if job[1] then
      local united = unite(job[2] or '', flows)
      if priority < tonumber(job[1]) or united ~= job[2] then
        local queued = redis.call('ZSCORE', key('q', job[3]), id)
        if queued then
          leave_lines(id)
        end
        redis.call('HSET', key('j', id), 'priority', math.min(priority, tonumber(job[1])), 'flows', united)
        if queued then
          join_lines(id)
        end
        for _, dependency in ipairs(redis.call('SMEMBERS', key('u', id))) do
          stack[#stack + 1] = dependency
        end
      end
    end
  end
end

-- Raises the impact of all that the job `first` waits for, directly or not. A job's impact is the longest way, in seconds,
-- from its start to the end of a job that waits for it; those that more jobs wait for come first among equals. It is
-- never lowered: at worst a job comes too early. The walk is bounded, since it only decides about order.
local function raise_impact(first)
  local stack, steps = {first}, 0
  while #stack > 0 and steps < IMPACT_WALK do
    local id = table.remove(stack)
    local above = tonumber(field(id, 'impact') or 0)
    for _, dependency in ipairs(redis.call('SMEMBERS', key('u', id))) do
      steps = steps + 1
      local job = redis.call('HMGET', key('j', dependency), 'weight', 'impact')
      if job[1] then
        local others = math.min(COUNTED_PARENTS, redis.call('SCARD', key('p', dependency)) - 1)
        local impact = math.min(MOST_IMPACT, above + job[1] + others)
        if impact > tonumber(job[2]) then
          redis.call('HSET', key('j', dependency), 'impact', impact)
          move_in_lines(dependency)
          stack[#stack + 1] = dependency
        end
      end
    end
  end
end

local function join(id, priority, forced_at, flows)
  -- The worker may have seen the flag and be killing the build, so the claim is taken from it rather than renewed.
  if field(id, 'cancel') then
    redis.call('HINCRBY', key('j', id), 'attempt', -1)
    enqueue(id)
  end
  if forced_at > tonumber(field(id, 'forced_at')) then
    redis.call('HSET', key('j', id), 'forced_at', forced_at)
  end
  inherit(id, priority, flows)
end

-- Makes sure that somebody answers: joins the job if it is under way, begins it if no answer of it stands.
local function demand(submission, priority, forced_at, flows, trace)
  local state = field(submission.id, 'state')
  if state == 'waiting' or state == 'queued' or state == 'running' then
    join(submission.id, priority, forced_at, flows)
  elseif not stands(submission.id, forced_at) then
    begin(submission, priority, forced_at, flows, trace)
  end
  return field(submission.id, 'state')
end
