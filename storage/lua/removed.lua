-- Takes a removal off the queue and counts it on the receipt that promised it, once.
-- KEYS: removals receipts   ARGV: entry, field of the receipt to count in ('': none)
if redis.call('ZREM', KEYS[1], ARGV[1]) == 1 and ARGV[2] ~= '' then redis.call('HINCRBY', KEYS[2], ARGV[2], 1) end
return 1
