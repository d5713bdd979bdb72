-- Replaces one stored turn under the fence (the customer edited a question).
-- KEYS: chat turns   ARGV: fence, number of the turn, value
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 0 then return 0 end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
redis.call('HINCRBY', KEYS[1], 'edits', 1)
return 1
