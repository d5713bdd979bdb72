-- Replaces the notes on a conversation, unless they were replaced since they were read, or the chat was forgotten.
-- KEYS: chat notes   ARGV: epoch, conversation, the notes as they were read ('' for none), the new ones ('' removes them)
-- Returns 1, or 0 when nothing was done
if (redis.call('HGET', KEYS[1], 'epoch') or '0') ~= ARGV[1] then return 0 end
local old = redis.call('HGET', KEYS[2], ARGV[2]) or ''
if old ~= ARGV[3] and old ~= ARGV[4] then return 0 end
if ARGV[4] == '' then redis.call('HDEL', KEYS[2], ARGV[2]) else redis.call('HSET', KEYS[2], ARGV[2], ARGV[4]) end
return 1
