-- Takes, renews or (ttl 0) gives up the lease of the poller. KEYS: leader  ARGV: name, ttl in ms   Returns 1 when it is held
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then redis.call('DEL', KEYS[1]) return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
