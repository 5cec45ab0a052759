-- audit id*  ->  {number of jobs repaired, woken queues}
-- Every script leaves the edges right; this is for a Redis that lost a part.

-- What the dependencies of a waiting job say: the first failed one, and whether one of them is lost.
local function inspect(id)
  local lost = false
  for _, dependency in ipairs(redis.call('SMEMBERS', key('u', id))) do
    local state = field(dependency, 'state')
    if state == 'failed' then
      return dependency, lost
    elseif state == 'done' then
      redis.call('SREM', key('u', id), dependency)
    elseif not state or state == 'cancelled' then
      lost = true
    end
  end
  return nil, lost
end

local ids = {}
while cursor < #ARGV do
  ids[#ids + 1] = read_name('job id')
end

local repaired = 0
for _, id in ipairs(ids) do
  if field(id, 'state') ~= 'waiting' then
    redis.call('SREM', PREFIX .. 'waiting', id)
  else
    local failed, lost = inspect(id)
    if failed and not field(id, 'tolerant') then
      local cause = field(failed, 'cause')
      fail(id, '', cause ~= '' and cause or failed, tonumber(field(failed, 'remembered_until')))
      repaired = repaired + 1
    elseif failed or lost or redis.call('SCARD', key('u', id)) == 0 then
      wake_early(id)
      repaired = repaired + 1
    end
  end
end
return {repaired, woken}
