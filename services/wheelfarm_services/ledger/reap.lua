-- reap failure max_attempts  ->  {number of jobs whose lease lapsed, woken queues}
-- Jobs whose pause is over are let be claimed, too.
local BATCH = 500

local failure = read_body('failure')
local max_attempts = read_number('max_attempts', 1, 1000000)

local reaped = 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', PREFIX .. 'lease', '-inf', now_ms(), 'LIMIT', 0, BATCH)) do
  redis.call('ZREM', PREFIX .. 'lease', id)
  if field(id, 'state') == 'running' then
    reaped = reaped + 1
    if field(id, 'cancel') then
      cancel_now(id)
    elseif tonumber(field(id, 'attempt')) >= max_attempts then
      fail(id, failure, '', now_ms())
    else
      enqueue(id)
    end
  end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', PREFIX .. 'delayed', '-inf', now_ms(), 'LIMIT', 0, BATCH)) do
  redis.call('ZREM', PREFIX .. 'delayed', id)
  if field(id, 'state') == 'queued' then
    join_queue(id)
  end
end
return {reaped, woken}
