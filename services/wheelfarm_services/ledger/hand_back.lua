-- hand_back id fence  ->  {'requeued' | 'cancelled' | 'lost' | 'unknown', woken queues}
-- The worker gives the job back, through no fault of either: it keeps its attempts.
local id = read_name('job id')
local fence = read_name('fence')

local lapse = lapse_of_claim(id, fence)
if lapse then
  return {lapse, woken}
end
if field(id, 'cancel') then
  cancel_now(id)
  return {'cancelled', woken}
end
redis.call('HINCRBY', key('j', id), 'attempt', -1)
enqueue(id)
return {'requeued', woken}
