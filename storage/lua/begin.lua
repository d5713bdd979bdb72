-- Opens a claimed chat: raises its fence, so that whoever held it before can write no more, and returns what is there.
-- A chat whose claims keep ending in nothing is 'tired': it rests before the next try, and being killed meanwhile counts
-- for nothing, or other people's deaths would add up to a turn that is given up without having been tried.
-- With it comes the window of the chat's main topic, where the caller does not remember it: a chat seldom used is cold.
-- KEYS: chat mail, turns of topic 0 without the conversation's number
-- ARGV: entry, how many items at most, claims after which a chat rests, how many turns at most
local entry = redis.call('HGET', KEYS[1], 'entry')
if entry ~= ARGV[1] then return {'gone'} end
local fence = redis.call('HINCRBY', KEYS[1], 'fence', 1)
redis.call('HDEL', KEYS[1], 'halt') -- what it calls for is in the mailbox
local tired = 0
if redis.call('HDEL', KEYS[1], 'rested') == 0 and tonumber(redis.call('HGET', KEYS[1], 'claims') or '0') >= tonumber(ARGV[3]) then
  tired = 1
else
  redis.call('HINCRBY', KEYS[1], 'claims', 1)
end
local window = redis.call('HMGET', KEYS[1], 's:0', 'n:0', 'c:0', 'base')
local first, last, turns, numbers = tonumber(window[1] or '1'), tonumber(window[2] or '0'), {}, {}
if last >= first and last - first < tonumber(ARGV[4]) then
  for number = first, last do numbers[#numbers + 1] = number end
  turns = redis.call('HMGET', KEYS[3] .. (window[3] or window[4] or '0'), unpack(numbers))
end
local time = redis.call('TIME')
return {'ok', fence, time[1] * 1000 + math.floor(time[2] / 1000), redis.call('HGETALL', KEYS[1]),
  redis.call('LRANGE', KEYS[2], 0, tonumber(ARGV[2]) - 1), tired, turns}
