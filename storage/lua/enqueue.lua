-- Stores one sealed update at the end of its chat's mailbox and makes the chat ready, once.
-- KEYS: chat mail ready seen stats later
-- ARGV: epoch, update id ('' for our own), item, cap, chat id, channel ('': not urgent)
-- What is urgent makes a running turn look at its mail at once; who misses the call finds the mark. A parked chat is woken.
-- Returns 'ok', 'seen' (an update that came before), 'full' (the cap's marker stands for it) or 'epoch' and the chat's.
local epoch = redis.call('HGET', KEYS[1], 'epoch') or '0'
if epoch ~= ARGV[1] then return {'epoch', epoch} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[2] ~= '' and redis.call('ZADD', KEYS[4], 'NX', now, ARGV[2]) == 0 then return {'seen'} end
local answer = 'ok'
if redis.call('LLEN', KEYS[2]) >= tonumber(ARGV[4]) then
  answer = 'full'
  if redis.call('HINCRBY', KEYS[1], 'over', 1) == 1 then
    redis.call('RPUSH', KEYS[2], '!')
    redis.call('HINCRBY', KEYS[5], 'depth', 1)
  end
else
  redis.call('RPUSH', KEYS[2], ARGV[3])
  redis.call('HINCRBY', KEYS[5], 'depth', 1)
end
if redis.call('HEXISTS', KEYS[1], 'entry') == 0 then
  redis.call('HSET', KEYS[1], 'entry', redis.call('XADD', KEYS[3], '*', 'chat', ARGV[5]))
end
if ARGV[6] ~= '' and answer == 'ok' then
  redis.call('HSET', KEYS[1], 'halt', 1)
  if redis.call('HGET', KEYS[1], 'entry') == 'later' then
    redis.call('ZREM', KEYS[6], ARGV[5])
    redis.call('HSET', KEYS[1], 'entry', redis.call('XADD', KEYS[3], '*', 'chat', ARGV[5]))
  end
  redis.call('PUBLISH', ARGV[6], ARGV[5])
end
return {answer}
