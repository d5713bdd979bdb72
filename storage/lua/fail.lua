-- Counts an exception of a handler on the first item of the mailbox. KEYS: chat  ARGV: fence   Returns the count, 0: stale
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
return redis.call('HINCRBY', KEYS[1], 'fails', 1)
