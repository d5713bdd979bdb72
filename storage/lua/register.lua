-- Records the message id that Telegram gave a piece, whatever the fence: the first registered wins, a later one loses.
-- (Deciding by the fence alone lets a worker that woke up late delete a message that was adopted meanwhile.)
-- A loser goes onto the list of what must be deleted in the same step: whoever lost may die before it deletes.
-- KEYS: chat own tomb trash   ARGV: turn, piece, message id, chat id     Returns 'owner' or 'loser'
if redis.call('ZSCORE', KEYS[2], ARGV[3]) then return 'owner' end
local f = redis.call('HMGET', KEYS[1], 'turn', 'mid:' .. ARGV[2])
if not redis.call('ZSCORE', KEYS[3], ARGV[3]) and f[1] == ARGV[1] and not f[2] then
  redis.call('HSET', KEYS[1], 'mid:' .. ARGV[2], ARGV[3])
  redis.call('ZADD', KEYS[2], ARGV[3], ARGV[3])
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -257)
  return 'owner'
end
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[3])
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -257)
local time = redis.call('TIME')
redis.call('ZADD', KEYS[4], 'NX', time[1] * 1000 + math.floor(time[2] / 1000), ARGV[4] .. ':' .. ARGV[3])
return 'loser'
