-- complete id result seconds  ->  {'ok' | 'duplicate' | 'gone', woken queues}
-- No fence: the id is the digest of the question, so the answer of a superseded worker is as good as any.
local id = read_name('job id')
local result = read_body('result')
local seconds = read_number('seconds', 0, 10 * 366 * 86400)

local state = field(id, 'state')
if not state or state == 'cancelled' then
  return {'gone', woken}
end
if state == 'done' then
  return {'duplicate', woken}
end
local subject = field(id, 'subject')
if seconds > 0 and subject and subject ~= '' then
  redis.call('HSET', PREFIX .. 'seconds', subject, seconds)
end
for _, parent in ipairs(finish(id, 'done', DONE_KEPT_MS, 'result', result)) do
  redis.call('SREM', key('u', parent), id)
  if field(parent, 'state') == 'waiting' and redis.call('SCARD', key('u', parent)) == 0 then
    enqueue(parent)
  end
end
return {'ok', woken}
