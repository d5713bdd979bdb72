-- Puts a task whose time has come into its chat's own mailbox, so that it can never hit an answer in flight.
-- KEYS: sweeps or ages, chat mail ready stats   ARGV: member, item, chat id
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('RPUSH', KEYS[3], ARGV[2])
redis.call('HINCRBY', KEYS[5], 'depth', 1)
if redis.call('HEXISTS', KEYS[2], 'entry') == 0 then
  redis.call('HSET', KEYS[2], 'entry', redis.call('XADD', KEYS[4], '*', 'chat', ARGV[3]))
end
return 1
