-- Telegram refused the send for certain: nothing is in flight, so a later worker need not look for it.
-- KEYS: chat   ARGV: fence, turn     Returns 1, or 0 when another worker took over
local f = redis.call('HMGET', KEYS[1], 'fence', 'turn')
if f[1] ~= ARGV[1] or f[2] ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], 't')
return 1
