-- Opens a claimed chat: raises its fence, so that whoever held it before can write no more, and returns what is there.
-- KEYS: chat mail   ARGV: entry, how many items at most
local entry = redis.call('HGET', KEYS[1], 'entry')
if entry ~= ARGV[1] then return {'gone'} end
local fence = redis.call('HINCRBY', KEYS[1], 'fence', 1)
redis.call('HINCRBY', KEYS[1], 'claims', 1)
local time = redis.call('TIME')
return {'ok', fence, time[1] * 1000 + math.floor(time[2] / 1000), redis.call('HGETALL', KEYS[1]),
  redis.call('LRANGE', KEYS[2], 0, tonumber(ARGV[2]) - 1)}
