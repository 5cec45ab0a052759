-- suspend id fence tolerant trace (id queue subject seconds spec)*  ->  {outcome, members, woken queues}
local GRAPH_NODES = 20000

-- The shortest way from `id` back to itself that the new edges would close; or nil, and whether the search gave up.
-- Only waiting jobs have unfinished edges, so this walks the part of the graph that could deadlock, no more.
local function closed_cycle(id, dependencies)
  local reached_from, frontier = {}, {}
  for _, dependency in ipairs(dependencies) do
    if dependency.id == id then
      return {id, id}
    end
    reached_from[dependency.id] = id
    frontier[#frontier + 1] = dependency.id
  end
  local head = 1
  while frontier[head] do
    local at = frontier[head]
    head = head + 1
    for _, further in ipairs(redis.call('SMEMBERS', key('u', at))) do
      if further == id then
        local path = {id}
        while at ~= id do
          table.insert(path, 1, at)
          at = reached_from[at]
        end
        table.insert(path, 1, id)
        return path
      end
      if not reached_from[further] then
        reached_from[further] = at
        frontier[#frontier + 1] = further
      end
    end
    if #frontier > GRAPH_NODES then
      return nil, true
    end
  end
end

local id = read_name('job id')
local fence = read_name('fence')
local tolerant = read_number('tolerant', 0, 1) == 1
local trace = read_trace()
local dependencies = read_submissions()

local lapse = lapse_of_claim(id, fence)
if lapse then
  return {lapse, {}, woken}
end
-- A waiting job has no worker that could be told of the cancellation, so this is the moment.
if field(id, 'cancel') then
  cancel_now(id)
  return {'lost', {}, woken}
end

local cycle, too_large = closed_cycle(id, dependencies)
if too_large then
  return {'too_large', {}, woken}
end
if cycle then
  return {'cycle', cycle, woken}
end

-- A failure since this job first asked is the answer to it, remembered or not: it would be asked for without end.
local function failed_since(dependency, asked_at)
  local job = redis.call('HMGET', key('j', dependency), 'state', 'finished_at')
  return asked_at and job[1] == 'failed' and tonumber(job[2]) >= tonumber(asked_at)
end

local forced_at, asked_at = tonumber(field(id, 'forced_at')), field(id, 'asked_at')
local failed, unfinished = {}, {}
for _, dependency in ipairs(dependencies) do
  redis.call('SADD', key('d', id), dependency.id)
  if failed_since(dependency.id, asked_at) then
    failed[#failed + 1] = dependency.id
  elseif not stands(dependency.id, forced_at) then
    unfinished[#unfinished + 1] = dependency
  elseif field(dependency.id, 'state') == 'failed' then
    failed[#failed + 1] = dependency.id
  end
end
if #failed > 0 then
  return {'dependency_failed', failed, woken}
end
if #unfinished == 0 then
  return {'ready', {}, woken}
end

local members = {}
local priority, flows = tonumber(field(id, 'priority')), field(id, 'flows') or ''
for _, dependency in ipairs(unfinished) do
  demand(dependency, priority, forced_at, flows, trace)
  redis.call('SADD', key('u', id), dependency.id)
  redis.call('SADD', key('p', dependency.id), id)
  members[#members + 1] = dependency.id
end
raise_impact(id)
drop_claim(id)
redis.call('HSET', key('j', id), 'asked_at', asked_at or now_ms())
if tolerant then
  redis.call('HSET', key('j', id), 'tolerant', 1)
else
  redis.call('HDEL', key('j', id), 'tolerant')
end
-- Finding out what is missing is not a failed attempt.
redis.call('HINCRBY', key('j', id), 'attempt', -1)
redis.call('SADD', PREFIX .. 'waiting', id)
move_to(id, 'waiting')
return {'waiting', members, woken}
