-- Opens a claimed chat: raises its fence, so that whoever held it before can write no more, and returns what is there.
-- A chat whose claims keep ending in nothing is 'tired': it rests before the next try, and being killed meanwhile counts
-- for nothing, or other people's deaths would add up to a turn that is given up without having been tried.
-- KEYS: chat mail   ARGV: entry, how many items at most, claims after which a chat rests
local entry = redis.call('HGET', KEYS[1], 'entry')
if entry ~= ARGV[1] then return {'gone'} end
local fence = redis.call('HINCRBY', KEYS[1], 'fence', 1)
local tired = 0
if redis.call('HDEL', KEYS[1], 'rested') == 0 and tonumber(redis.call('HGET', KEYS[1], 'claims') or '0') >= tonumber(ARGV[3]) then
  tired = 1
else
  redis.call('HINCRBY', KEYS[1], 'claims', 1)
end
local time = redis.call('TIME')
return {'ok', fence, time[1] * 1000 + math.floor(time[2] / 1000), redis.call('HGETALL', KEYS[1]),
  redis.call('LRANGE', KEYS[2], 0, tonumber(ARGV[2]) - 1), tired}
