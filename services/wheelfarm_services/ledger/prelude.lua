-- What all scripts of the ledger share: the names of keys, the reading of arguments, and the moves of a job.
-- It stands in front of each operation's own text. Every key carries one hash tag, so one node holds them all.
--
--   j:<id>   hash    the job; `state` is one of wheelfarm.job.JobState, times are ms of the server's clock
--   q:<name> zset    claimable jobs, by priority, impact, arrival
--   d:<id>   set     every job that this one ever asked for; outlives the job's end, for those who watch
--   u:<id>   set     those of them that are not finished. A set and not a counter: taking out twice is harmless
--   p:<id>   set     jobs that wait for this one: u, turned round
--   w:<id>   set     requests that want this job;  r:<request> zset  jobs of a request, in the order given
--   waiting  set     jobs in state waiting;        lease       zset  running jobs, by the ms their lease lapses
--   queues   set     names of all queues seen;     ev          stream  every change of state
--   fence, place     the last fencing token and the last place in a queue

local PREFIX = '{wheelfarm}:'
local DONE_KEPT_MS = 7 * 86400 * 1000
local ENDED_KEPT_MS = 3600 * 1000
local REQUEST_KEPT_S = 30 * 86400
local EVENTS_KEPT = 100000
local NAME_BYTES = 256
local BODY_BYTES = 1048576
local SUBMISSIONS = 20000
-- Impact, in seconds: its levels times the places stay below one step of priority, and 100 of those below 2^53.
local MOST_IMPACT = 8999
local IMPACT_STEP = 1e10
local PRIORITY_STEP = 9e13
local USUAL_SECONDS = 5
local COUNTED_PARENTS = 4
local IMPACT_WALK = 5000

local woken = {}

local function key(kind, id)
  return PREFIX .. kind .. ':' .. id
end

-- Arguments are read in order and all of them before the first write, for a script that stops halfway is not undone.
local cursor = 0

local function refuse(reason)
  error({err = 'ERR ledger: ' .. reason})
end

local function read_body(what)
  cursor = cursor + 1
  local value = ARGV[cursor]
  if not value or #value > BODY_BYTES then
    refuse(what .. ' is missing or longer than ' .. BODY_BYTES .. ' bytes')
  end
  return value
end

local function read_name(what)
  local value = read_body(what)
  if #value == 0 or #value > NAME_BYTES then
    refuse(what .. ' must have 1 to ' .. NAME_BYTES .. ' bytes')
  end
  return value
end

local function read_number(what, least, most)
  local value = tonumber(read_body(what))
  if not value or value < least or value > most or value % 1 ~= 0 then
    refuse(what .. ' must be a whole number from ' .. least .. ' to ' .. most)
  end
  return value
end

local function read_duration_ms(what)
  return read_number(what, 0, 10 * 366 * 86400 * 1000)
end

-- The submissions that make up the rest of the arguments, each id once.
local function read_submissions()
  local left = #ARGV - cursor
  if left % 4 ~= 0 or left > 4 * SUBMISSIONS then
    refuse('submissions must be at most ' .. SUBMISSIONS .. ' times id, queue, seconds and spec')
  end
  local found, seen = {}, {}
  while cursor < #ARGV do
    local id, queue = read_name('job id'), read_name('queue')
    local seconds, spec = read_number('seconds', 0, 10 * 366 * 86400), read_body('spec')
    if not seen[id] then
      seen[id] = true
      found[#found + 1] = {id = id, queue = queue, seconds = seconds, spec = spec}
    end
  end
  return found
end

-- The server's clock, the only one in use: the workers' clocks differ.
local function now_us()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function now_ms()
  return math.floor(now_us() / 1000)
end

local function field(id, name)
  return redis.call('HGET', key('j', id), name)
end

local function announce(id, state)
  redis.call('XADD', PREFIX .. 'ev', 'MAXLEN', '~', EVENTS_KEPT, '*', 'job', id, 'state', state)
end

-- A smaller number is claimed sooner: by priority, then the higher impact, then the earlier arrival.
local function rank(priority, impact, place)
  return tonumber(priority) * PRIORITY_STEP + (MOST_IMPACT - tonumber(impact)) * IMPACT_STEP + tonumber(place)
end

-- Puts a queued job where it belongs after its priority or its impact changed.
local function move_in_queue(id)
  local job = redis.call('HMGET', key('j', id), 'state', 'queue', 'priority', 'impact', 'place')
  if job[1] == 'queued' then
    redis.call('ZADD', key('q', job[2]), 'XX', rank(job[3], job[4], job[5]), id)
  end
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

local function enqueue(id)
  local job = redis.call('HMGET', key('j', id), 'queue', 'priority', 'impact')
  local place = redis.call('INCR', PREFIX .. 'place')
  drop_claim(id)
  redis.call('SREM', PREFIX .. 'waiting', id)
  redis.call('HSET', key('j', id), 'state', 'queued', 'queued_at', now_ms(), 'place', place)
  redis.call('ZADD', key('q', job[1]), rank(job[2], job[3], place), id)
  redis.call('SADD', PREFIX .. 'queues', job[1])
  woken[#woken + 1] = job[1]
  announce(id, 'queued')
end

-- Ends a job in `state` with further fields; gives the jobs that waited for it.
local function finish(id, state, kept_ms, ...)
  local parents = redis.call('SMEMBERS', key('p', id))
  redis.call('ZREM', key('q', field(id, 'queue')), id)
  redis.call('ZREM', PREFIX .. 'lease', id)
  redis.call('SREM', PREFIX .. 'waiting', id)
  drop_unfinished_edges(id)
  redis.call('DEL', key('p', id), key('w', id))
  redis.call('HDEL', key('j', id), 'fence', 'cancel', 'failure', 'cause', 'remembered_until')
  redis.call('HSET', key('j', id), 'state', state, 'finished_at', now_ms(), ...)
  redis.call('PEXPIRE', key('j', id), kept_ms)
  redis.call('PEXPIRE', key('d', id), kept_ms)
  announce(id, state)
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

-- p:<id> is left alone: when Redis lost the job but not its edges, its parents still wait for it.
local function begin(submission, priority, forced_at)
  local id = submission.id
  local weight = math.min(MOST_IMPACT, submission.seconds > 0 and submission.seconds or USUAL_SECONDS)
  drop_unfinished_edges(id)
  redis.call('DEL', key('d', id))
  redis.call('HDEL', key('j', id), 'result', 'failure', 'cause', 'remembered_until', 'started_at', 'finished_at',
    'tolerant', 'asked_at')
  redis.call('HSET', key('j', id), 'queue', submission.queue, 'spec', submission.spec, 'priority', priority,
    'attempt', 0, 'releases', 0, 'forced_at', forced_at, 'weight', weight, 'impact', weight)
  redis.call('PERSIST', key('j', id))
  enqueue(id)
end

-- Priority inheritance: what an urgent job waits for is as urgent.
local function raise_priority(first, priority)
  local stack = {first}
  while #stack > 0 do
    local id = table.remove(stack)
    local known = field(id, 'priority')
    if known and priority < tonumber(known) then
      redis.call('HSET', key('j', id), 'priority', priority)
      move_in_queue(id)
      for _, dependency in ipairs(redis.call('SMEMBERS', key('u', id))) do
        stack[#stack + 1] = dependency
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
          move_in_queue(dependency)
          stack[#stack + 1] = dependency
        end
      end
    end
  end
end

local function join(id, priority, forced_at)
  -- The worker may have seen the flag and be killing the build, so the claim is taken from it rather than renewed.
  if field(id, 'cancel') then
    redis.call('HINCRBY', key('j', id), 'attempt', -1)
    enqueue(id)
  end
  if forced_at > tonumber(field(id, 'forced_at')) then
    redis.call('HSET', key('j', id), 'forced_at', forced_at)
  end
  raise_priority(id, priority)
end

-- Makes sure that somebody answers: joins the job if it is under way, begins it if no answer of it stands.
local function demand(submission, priority, forced_at)
  local state = field(submission.id, 'state')
  if state == 'waiting' or state == 'queued' or state == 'running' then
    join(submission.id, priority, forced_at)
  elseif not stands(submission.id, forced_at) then
    begin(submission, priority, forced_at)
  end
  return field(submission.id, 'state')
end
