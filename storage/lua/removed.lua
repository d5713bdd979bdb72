-- Takes a removal off the queue and counts it on the receipt that promised it, once.
-- KEYS: removals receipts   ARGV: entry, id of the receipt ('': none), 'c' for confirmed or 'g' for given up
if redis.call('ZREM', KEYS[1], ARGV[1]) == 1 and redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1 then
  redis.call('HINCRBY', KEYS[2], ARGV[2] .. ':' .. ARGV[3], 1)
end
return 1
