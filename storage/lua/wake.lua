-- Makes a parked chat ready when its time has come; of several workers that try, one succeeds.
-- KEYS: chat ready later   ARGV: chat id
if redis.call('ZREM', KEYS[3], ARGV[1]) == 0 then return 0 end
if redis.call('HGET', KEYS[1], 'entry') ~= 'later' then return 0 end
redis.call('HSET', KEYS[1], 'entry', redis.call('XADD', KEYS[2], '*', 'chat', ARGV[1]))
return 1
