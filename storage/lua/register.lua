-- Records the message id that Telegram gave a piece, whatever the fence: the first registered wins, a later one loses.
-- (Deciding by the fence alone lets a worker that woke up late delete a message that was adopted meanwhile.)
-- KEYS: chat own tomb   ARGV: turn, piece, message id     Returns 'owner' or 'loser'
if redis.call('ZSCORE', KEYS[2], ARGV[3]) then return 'owner' end
if redis.call('ZSCORE', KEYS[3], ARGV[3]) then return 'loser' end
local f = redis.call('HMGET', KEYS[1], 'turn', 'mid:' .. ARGV[2])
if f[1] == ARGV[1] and not f[2] then
  redis.call('HSET', KEYS[1], 'mid:' .. ARGV[2], ARGV[3])
  redis.call('ZADD', KEYS[2], ARGV[3], ARGV[3])
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -257)
  return 'owner'
end
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[3])
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -257)
return 'loser'
