-- complete id result  ->  {'ok' | 'duplicate' | 'gone', woken queues}
-- No fence: the id is the digest of the question, so the answer of a superseded worker is as good as any.
local id = read_name('job id')
local result = read_body('result')

local state = field(id, 'state')
if not state or state == 'cancelled' then
  return {'gone', woken}
end
if state == 'done' then
  return {'duplicate', woken}
end
for _, parent in ipairs(finish(id, 'done', DONE_KEPT_MS, 'result', result)) do
  redis.call('SREM', key('u', parent), id)
  if field(parent, 'state') == 'waiting' and redis.call('SCARD', key('u', parent)) == 0 then
    enqueue(parent)
  end
end
return {'ok', woken}
