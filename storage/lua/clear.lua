-- Removes what is left of a chat in which nothing is stored and nothing happened for long, unless somebody writes just now.
-- KEYS: chat mail, then the chat's other keys   ARGV: fence   Returns 1, or 0 when it is in use
local f = redis.call('HMGET', KEYS[1], 'fence', 'entry')
if f[1] ~= ARGV[1] or f[2] or redis.call('LLEN', KEYS[2]) > 0 then return 0 end
redis.call('UNLINK', unpack(KEYS))
return 1
