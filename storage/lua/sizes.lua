-- The sizes in bytes of some fields of a hash. KEYS: turns   ARGV: first, last   Returns one number for each, 0: not there
local sizes = {}
for number = tonumber(ARGV[1]), tonumber(ARGV[2]) do sizes[#sizes + 1] = redis.call('HSTRLEN', KEYS[1], number) end
return sizes
