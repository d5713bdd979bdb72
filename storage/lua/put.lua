-- Changes fields of a chat under its fence, where nothing has to be said with it.
-- KEYS: chat   ARGV: fence, change (JSON: set, del)   Returns 1, or 0 when another worker took over
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
local change = cjson.decode(ARGV[2])
for name, value in pairs(change.set or {}) do redis.call('HSET', KEYS[1], name, value) end
for _, name in ipairs(change.del or {}) do redis.call('HDEL', KEYS[1], name) end
return 1
