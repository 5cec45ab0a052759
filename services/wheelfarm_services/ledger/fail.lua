-- fail id fence failure retry pause_ms remember_ms max_attempts
--   ->  {'failed' | 'requeued' | 'cancelled' | 'lost' | 'unknown', woken queues}
local id = read_name('job id')
local fence = read_name('fence')
local failure = read_body('failure')
local retry = read_number('retry', 0, 1) == 1
local pause_ms = read_duration_ms('pause')
local remember_ms = read_duration_ms('remember')
local max_attempts = read_number('max_attempts', 1, 1000000)

local lapse = lapse_of_claim(id, fence)
if lapse then
  return {lapse, woken}
end
if field(id, 'cancel') then
  cancel_now(id)
  return {'cancelled', woken}
end
if retry and tonumber(field(id, 'attempt')) < max_attempts then
  enqueue(id, pause_ms)
  return {'requeued', woken}
end
fail(id, failure, '', now_ms() + remember_ms)
return {'failed', woken}
