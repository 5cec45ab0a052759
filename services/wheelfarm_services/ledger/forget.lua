-- forget id*  ->  how many of these jobs were done; they are unknown now, for what they made is gone
local ids = {}
while cursor < #ARGV do
  ids[#ids + 1] = read_name('job id')
end

local count = 0
for _, id in ipairs(ids) do
  if field(id, 'state') == 'done' then
    redis.call('DEL', key('j', id), key('d', id))
    count = count + 1
  end
end
return count
