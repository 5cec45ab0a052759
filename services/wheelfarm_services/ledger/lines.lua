-- In which order the jobs of a queue are claimed. It stands after prelude.lua.
--
-- First by priority, then by turns of the requests, and in the turn of a request by impact. Each request is a flow, and
-- the jobs of one priority that a flow wants form a line; a job that many requests want stands in the line of each, so
-- that the first turn takes it. Turns are dealt by fair queueing with start tags (Goyal, Vin, Cheng 1996): the line with
-- the smallest tag is next, and a turn moves its tag on by as much as its tenant has lines, so that tenants have equal
-- shares, and the requests of a tenant equal shares of its. A line that begins starts one such step behind the tag served
-- last: nobody saves up turns, and since every tag that comes is greater than those served, each line that stands gets its
-- turn, however many begin after it.
--
--   s:<queue>        zset  lines that are not empty, by priority and start tag
--   l:<queue>:<line> zset  jobs of a line, by impact and then by place
--   t:<queue>        zset  the tags of lines that ran empty, as long as they are ahead of what is served
--   v:<queue>        hash  the tag served last, by priority
--   c:<queue>        hash  lines that are not empty, by priority and share

local MOST_IMPACT = 86400
local IMPACT_STEP = 1e10
local PRIORITY_STEP = 1e13
local MOST_FLOWS = 100

-- A flow is written <number>:<share>, a line <priority>:<number>:<share>; the number decides between equal tags.
local function line_of(priority, flow)
  return string.format('%02d:%s', tonumber(priority), flow)
end

local function flow_of(request, share)
  local flow = redis.call('GET', key('f', request))
  if not flow then
    flow = string.format('%010d:%s', redis.call('INCR', PREFIX .. 'flow'), share)
  end
  redis.call('SET', key('f', request), flow, 'EX', REQUEST_KEPT_S)
  return flow
end

-- Both lists of flows, each once; more than MOST_FLOWS are not kept, for by then the job's turn is near.
local function unite(flows, others)
  local count = select(2, string.gsub(flows, '%S+', ''))
  for flow in string.gmatch(others, '%S+') do
    if count < MOST_FLOWS and not string.find(' ' .. flows .. ' ', ' ' .. flow .. ' ', 1, true) then
      flows = flows == '' and flow or flows .. ' ' .. flow
      count = count + 1
    end
  end
  return flows
end

local function served_tag(queue, priority)
  return tonumber(redis.call('HGET', key('v', queue), tonumber(priority)) or '0')
end

-- Both parts of the score together stay below 2^53.
local function open_line(queue, line)
  local priority = string.sub(line, 1, 2)
  local lines = redis.call('HINCRBY', key('c', queue), priority .. string.sub(line, 14), 1)
  local tag = tonumber(priority) * PRIORITY_STEP + served_tag(queue, priority) + lines
  local former = tonumber(redis.call('ZSCORE', key('t', queue), line) or '0')
  redis.call('ZADD', key('s', queue), math.max(tag, former), line)
end

local function close_line(queue, line, tag)
  redis.call('ZREM', key('s', queue), line)
  redis.call('ZADD', key('t', queue), tag, line)
  local counted = string.sub(line, 1, 2) .. string.sub(line, 14)
  if redis.call('HINCRBY', key('c', queue), counted, -1) <= 0 then
    redis.call('HDEL', key('c', queue), counted)
  end
end

-- After a turn of the line: its tag, and what its tag makes needless to remember.
local function charge(queue, line, tag)
  local priority = tonumber(string.sub(line, 1, 2))
  local floor = priority * PRIORITY_STEP
  local served = math.max(served_tag(queue, priority), tag - floor)
  redis.call('HSET', key('v', queue), priority, string.format('%.0f', served))
  redis.call('ZREMRANGEBYSCORE', key('t', queue), floor, floor + served)
  local lines = tonumber(redis.call('HGET', key('c', queue), string.sub(line, 1, 2) .. string.sub(line, 14)) or '1')
  return tag + math.max(1, lines)
end

local function rank(impact, place)
  return (MOST_IMPACT - tonumber(impact)) * IMPACT_STEP + tonumber(place)
end

local function each_line(id, visit)
  local job = redis.call('HMGET', key('j', id), 'queue', 'priority', 'flows', 'impact', 'place')
  if job[1] then
    for flow in string.gmatch(job[3] or '', '%S+') do
      visit(job[1], line_of(job[2], flow), rank(job[4], job[5] or 0))
    end
  end
end

local function join_lines(id)
  each_line(id, function(queue, line, score)
    local jobs = key('l', queue .. ':' .. line)
    if redis.call('EXISTS', jobs) == 0 then
      open_line(queue, line)
    end
    redis.call('ZADD', jobs, score, id)
  end)
end

local function leave_lines(id)
  each_line(id, function(queue, line)
    local jobs = key('l', queue .. ':' .. line)
    if redis.call('ZREM', jobs, id) == 1 and redis.call('EXISTS', jobs) == 0 then
      close_line(queue, line, redis.call('ZSCORE', key('s', queue), line) or 0)
    end
  end)
end

-- Puts a queued job where it belongs after its impact changed.
local function move_in_lines(id)
  each_line(id, function(queue, line, score)
    redis.call('ZADD', key('l', queue .. ':' .. line), 'XX', score, id)
  end)
end

local function join_queue(id)
  local queue = field(id, 'queue')
  redis.call('ZADD', key('q', queue), field(id, 'place'), id)
  redis.call('SADD', PREFIX .. 'queues', queue)
  join_lines(id)
  woken[#woken + 1] = queue
end

local function leave_queue(id)
  if redis.call('ZREM', key('q', field(id, 'queue')), id) == 1 then
    leave_lines(id)
  end
end

-- The job whose turn it is, taken out of the queue; nil when there is none.
local function take_next(queue)
  while true do
    local head = redis.call('ZRANGE', key('s', queue), 0, 0, 'WITHSCORES')
    local line, tag = head[1], tonumber(head[2])
    if not line then
      return nil
    end
    local id = redis.call('ZRANGE', key('l', queue .. ':' .. line), 0, 0)[1]
    if not id then
      close_line(queue, line, tag)
    elseif field(id, 'state') ~= 'queued' then
      -- An entry without its job is what a partial loss leaves behind.
      redis.call('ZREM', key('l', queue .. ':' .. line), id)
      redis.call('ZREM', key('q', queue), id)
    else
      local later = charge(queue, line, tag)
      redis.call('ZADD', key('s', queue), later, line)
      redis.call('ZREM', key('q', queue), id)
      leave_lines(id)
      return id
    end
  end
end
