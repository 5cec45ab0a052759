-- What all scripts of the ledger share: the names of keys, the reading of arguments, and the moves of a job.
-- It stands in front of each operation's own text. Every key carries one hash tag, so one node holds them all.
--
--   j:<id>   hash    the job; `state` is one of wheelfarm.job.JobState, times are ms of the server's clock
--   q:<name> zset    claimable jobs, as they came; in which order they are claimed: lines.lua
--   delayed  zset    jobs in state queued that are not to be claimed before that ms
--   d:<id>   set     every job that this one ever asked for; outlives the job's end, for those who watch
--   u:<id>   set     those of them that are not finished. A set and not a counter: taking out twice is harmless
--   p:<id>   set     jobs that wait for this one: u, turned round
--   w:<id>   set     requests that want this job;  r:<request> zset  jobs of a request, in the order given
--   waiting  set     jobs in state waiting;        lease       zset  running jobs, by the ms their lease lapses
--   f:<request> string  the flow of a request: its number and its share;  alive  zset  requests, by the ms they expire
--   queues   set     names of all queues seen;     ev          stream  every change of state
--   seconds  hash    how long jobs of a subject took;  count  hash  jobs by state and queue
--   lookups  hash    what requests found of the jobs that they asked for: hit, coalesced, miss
--   fence, place, flow  the last fencing token, place in a line, number of a flow

local PREFIX = '{wheelfarm}:'
local DONE_KEPT_MS = 7 * 86400 * 1000
local ENDED_KEPT_MS = 3600 * 1000
local REQUEST_KEPT_S = 30 * 86400
local EVENTS_KEPT = 100000
local NAME_BYTES = 256
local BODY_BYTES = 1048576
local SUBMISSIONS = 20000
local USUAL_SECONDS = 5

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

-- The traceparent of who asks (W3C Trace Context), or nothing.
local function read_trace()
  local value = read_body('trace')
  if #value > NAME_BYTES then
    refuse('trace must have at most ' .. NAME_BYTES .. ' bytes')
  end
  return value
end

-- The submissions that make up the rest of the arguments, each id once.
local function read_submissions()
  local left = #ARGV - cursor
  if left % 5 ~= 0 or left > 5 * SUBMISSIONS then
    refuse('submissions must be at most ' .. SUBMISSIONS .. ' times id, queue, subject, seconds and spec')
  end
  local found, seen = {}, {}
  while cursor < #ARGV do
    local job = {id = read_name('job id'), queue = read_name('queue'), subject = read_body('subject'),
      seconds = read_number('seconds', 0, 10 * 366 * 86400), spec = read_body('spec')}
    if not seen[job.id] then
      seen[job.id] = true
      found[#found + 1] = job
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
