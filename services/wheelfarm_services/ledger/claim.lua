-- claim queue worker lease_ms  ->  nil, or {id, fence, spec, attempt, forced_at, queued_at, now, trace}
local queue = read_name('queue')
local worker = read_name('worker')
local lease_ms = read_duration_ms('lease')

local id = take_next(queue)
if not id then
  return nil
end
-- Taken from the clock, so that no token is given twice after Redis lost its last second, or everything.
local last = tonumber(redis.call('GET', PREFIX .. 'fence') or '0')
local fence = string.format('%.0f', math.max(now_us(), last + 1))
redis.call('SET', PREFIX .. 'fence', fence)
local now = now_ms()
redis.call('HSET', key('j', id), 'fence', fence, 'worker', worker, 'started_at', now)
redis.call('ZADD', PREFIX .. 'lease', now + lease_ms, id)
move_to(id, 'running')
local attempt = redis.call('HINCRBY', key('j', id), 'attempt', 1)
return {id, fence, field(id, 'spec'), attempt, field(id, 'forced_at') or '0', field(id, 'queued_at') or now, now,
  field(id, 'trace') or ''}
