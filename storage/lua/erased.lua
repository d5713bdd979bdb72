-- Notes that all a forget named is gone: what is left of it is to say so. What was set aside or lost goes with it.
-- KEYS: chat past dead tomb   ARGV: fence, plan, entries of ended conversations that are gone, separated by blanks ('*': all)
-- Returns 1, or 0 when another worker took over
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
redis.call('UNLINK', KEYS[3], KEYS[4])
if ARGV[3] == '*' then redis.call('DEL', KEYS[2]) end
for entry in string.gmatch(ARGV[3], '[%d:]+') do redis.call('LREM', KEYS[2], 0, entry) end
redis.call('HSET', KEYS[1], 'forget', ARGV[2])
return 1
