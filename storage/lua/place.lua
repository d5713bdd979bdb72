-- Writes whole turns under the fence: such as are sealed anew, or removed ('' as value), or come back by an import.
-- KEYS: chat turns   ARGV: fence, '1': also where there is none, then number and value in turn
-- Returns 1, or 0 when another worker took over
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
for i = 3, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', KEYS[2], ARGV[i])
  elseif ARGV[2] == '1' or redis.call('HEXISTS', KEYS[2], ARGV[i]) == 1 then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  end
end
return 1
