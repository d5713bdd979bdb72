-- Notes under the fence that a provider has begun to keep something of this chat: it has no list to look it up in.
-- KEYS: chat remotes   ARGV: fence, ``topic:conversation:`` and the sealed id
-- Returns 1, or 0 when another worker took over (then it may be forgotten already, and the caller has it deleted)
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
redis.call('RPUSH', KEYS[2], ARGV[2])
return 1
