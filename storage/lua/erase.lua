-- Begins a forget, under the fence: whatever was written or is in flight under the chat's old epoch can be written no more.
-- The plan stays in the chat until its receipt is said, so that a successor goes on with it. It names keys, never content.
-- KEYS: chat mail stats sweeps
-- ARGV: fence, chat id, length of the mailbox, plan (JSON: also what to set and to delete in the chat), times of sweeps in
--   ms, separated by blanks, then what stays of the mailbox, sealed anew
-- Returns 1, 0 when another worker took over, or 2 when the mailbox grew meanwhile
--# charge
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
if redis.call('HEXISTS', KEYS[1], 'forget') == 1 then return 1 end
if redis.call('LLEN', KEYS[2]) ~= tonumber(ARGV[3]) then return 2 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local f = redis.call('HMGET', KEYS[1], 'turn', 'hi', 'doubt', 'pieces', 'change')
if f[1] then
  -- What it was about to say may be under way: late copies are looked for afterwards and deleted.
  for delay in string.gmatch(ARGV[5], '%d+') do
    redis.call('ZADD', KEYS[4], now + delay, ARGV[2] .. ':' .. (f[3] or f[2]) .. ':' .. delay)
  end
  for i = 0, tonumber(f[4]) - 1 do redis.call('HDEL', KEYS[1], 'mid:' .. i) end
  -- What it used was used: or whoever forgets each answer before it is whole would use the model for nothing.
  local spend = f[5] and f[5] ~= '' and cjson.decode(f[5]).spend
  if spend then
    charge(KEYS[1], spend, now)
    charge(KEYS[3], spend, now)
  end
end
redis.call('HDEL', KEYS[1], 'turn', 'record', 'header', 'take', 'pieces', 'kind', 'topic', 'seq', 'piece', 'hi', 'attempt', 't', 'claims',
  'fails', 'marker', 'doubt', 'rested', 'change')
redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('DEL', KEYS[2])
for i = 6, #ARGV do redis.call('RPUSH', KEYS[2], ARGV[i]) end
redis.call('HINCRBY', KEYS[3], 'depth', #ARGV - 5 - ARGV[3])
local plan = cjson.decode(ARGV[4])
for name, value in pairs(plan.set or {}) do redis.call('HSET', KEYS[1], name, value) end
for _, name in ipairs(plan.del or {}) do redis.call('HDEL', KEYS[1], name) end
redis.call('HSET', KEYS[1], 'forget', ARGV[4])
return 1
