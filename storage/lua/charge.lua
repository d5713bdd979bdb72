-- Charges what was used for an answer that will not be said, once for each claim of the chat.
-- KEYS: chat stats   ARGV: fence, messages, tokens, millionths of money
-- Returns 1, or 0 when another worker took over
--# charge
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
if redis.call('HGET', KEYS[1], 'charged') == ARGV[1] then return 1 end
local time = redis.call('TIME')
local spend, ms = {ARGV[2], ARGV[3], ARGV[4]}, time[1] * 1000 + math.floor(time[2] / 1000)
charge(KEYS[1], spend, ms)
charge(KEYS[2], spend, ms)
redis.call('HSET', KEYS[1], 'charged', ARGV[1])
return 1
