-- beat id fence lease_ms  ->  'ok', 'cancel', 'lost' or 'unknown'
local id = read_name('job id')
local fence = read_name('fence')
local lease_ms = read_duration_ms('lease')

local lapse = lapse_of_claim(id, fence)
if lapse then
  return lapse
end
redis.call('ZADD', PREFIX .. 'lease', now_ms() + lease_ms, id)
return field(id, 'cancel') and 'cancel' or 'ok'
