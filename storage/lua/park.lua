-- Gives a claimed chat back: at once (delay 0) or when a time has come. What the journal holds stays.
-- Something urgent that came during the claim is not to wait for the time: it found no parked chat that it could wake.
-- KEYS: chat ready later   ARGV: fence, entry, chat id, delay in ms, how ('forgive': no failure so far, 'count', 'rest')
local f = redis.call('HMGET', KEYS[1], 'fence', 'entry')
if f[1] ~= ARGV[1] or f[2] ~= ARGV[2] then return 0 end
if ARGV[5] == 'forgive' then redis.call('HDEL', KEYS[1], 'claims') end
if ARGV[5] == 'rest' then redis.call('HSET', KEYS[1], 'rested', 1) end
redis.call('XACK', KEYS[2], 'workers', ARGV[2])
redis.call('XDEL', KEYS[2], ARGV[2])
redis.call('HINCRBY', KEYS[1], 'fence', 1)
if tonumber(ARGV[4]) == 0 then
  redis.call('HDEL', KEYS[1], 'until')
  redis.call('HSET', KEYS[1], 'entry', redis.call('XADD', KEYS[2], '*', 'chat', ARGV[3]))
else
  local time = redis.call('TIME')
  local due = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[4]
  redis.call('HSET', KEYS[1], 'entry', 'later', 'until', due)
  if redis.call('HEXISTS', KEYS[1], 'halt') == 1 then
    redis.call('HSET', KEYS[1], 'entry', redis.call('XADD', KEYS[2], '*', 'chat', ARGV[3]))
  else
    redis.call('ZADD', KEYS[3], due, ARGV[3])
  end
end
return 1
