-- Ends a turn under its fence: history grows, the mailbox shrinks, the journal is cleared, the chat is handed on.
-- With a message id it registers that first, whatever the fence (see register.lua): one call on the normal path.
-- KEYS: chat mail ready own tomb turns stats sweeps trash past links ages
-- ARGV: fence, turn ('' when nothing was said), entry, chat id, piece, message id or '', take, start of the context or '',
--   marker ('1': the cap's marker was among the items), what of the chat ('1': it cannot be reached, '0': it is back,
--   'x': this turn cannot be delivered, ''), times of sweeps in ms, separated by blanks,
--   since when it cannot be reached in ms ('': now), when what is written now is too old (ms; '': nothing is kept of it)
-- Returns {'ok' | 'fence' | 'open', 'owner' | 'loser' | ''}
--# charge
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local standing = ''
if ARGV[6] ~= '' then
  if redis.call('ZSCORE', KEYS[4], ARGV[6]) then
    standing = 'owner'
  else
    local g = redis.call('HMGET', KEYS[1], 'turn', 'mid:' .. ARGV[5])
    local set = KEYS[5]
    standing = 'loser'
    if g[1] == ARGV[2] and not g[2] and not redis.call('ZSCORE', KEYS[5], ARGV[6]) then
      redis.call('HSET', KEYS[1], 'mid:' .. ARGV[5], ARGV[6])
      set = KEYS[4]
      standing = 'owner'
    end
    redis.call('ZADD', set, ARGV[6], ARGV[6])
    redis.call('ZREMRANGEBYRANK', set, 0, -257)
    if standing == 'loser' then redis.call('ZADD', KEYS[9], 'NX', now, ARGV[4] .. ':' .. ARGV[6]) end
  end
end
local f = redis.call('HMGET', KEYS[1], 'fence', 'done', 'turn', 'kind', 'pieces', 'seq', 'topic', 'record', 'header', 'doubt', 'change')
if f[1] ~= ARGV[1] then return {'fence', standing} end
if f[2] == ARGV[1] then return {'ok', standing} end
local gone = {'turn', 'record', 'header', 'take', 'pieces', 'kind', 'topic', 'seq', 'piece', 'hi', 'attempt', 't', 'claims', 'fails',
  'marker', 'doubt', 'rested', 'change', 'until'}
local change, said = nil, {}
if ARGV[2] ~= '' then
  if f[3] ~= ARGV[2] then return {'fence', standing} end
  local ids = said
  for i = 0, tonumber(f[5]) - 1 do
    ids[#ids + 1] = redis.call('HGET', KEYS[1], 'mid:' .. i) or nil
    gone[#gone + 1] = 'mid:' .. i
  end
  if #ids < tonumber(f[5]) and ARGV[10] ~= '1' and ARGV[10] ~= 'x' then return {'open', standing} end
  if f[4] == 'answer' and #ids == tonumber(f[5]) then
    redis.call('HSET', KEYS[6], f[6], f[9] .. '|' .. table.concat(ids, ',') .. '\n' .. f[8])
    redis.call('HSET', KEYS[1], 'n:' .. f[7], f[6])
    if ARGV[8] ~= '' then redis.call('HSET', KEYS[1], 's:' .. f[7], ARGV[8]) end
  end
  if f[10] then
    for delay in string.gmatch(ARGV[11], '%d+') do
      redis.call('ZADD', KEYS[8], now + delay, ARGV[4] .. ':' .. f[10] .. ':' .. delay)
    end
  end
end
redis.call('HDEL', KEYS[1], unpack(gone))
redis.call('HSET', KEYS[1], 'done', ARGV[1])
if ARGV[2] ~= '' and f[11] and f[11] ~= '' then
  change = cjson.decode(f[11])
  for name, value in pairs(change.set or {}) do redis.call('HSET', KEYS[1], name, value) end
  for _, name in ipairs(change.del or {}) do redis.call('HDEL', KEYS[1], name) end
  for _, entry in ipairs(change.past or {}) do redis.call('RPUSH', KEYS[10], entry) end
  if change.spend then
    charge(KEYS[1], change.spend, now)
    charge(KEYS[7], change.spend, now)
  end
  if change.link then
    for _, id in ipairs(said) do redis.call('HSET', KEYS[11], id, change.link) end
    redis.call('EXPIRE', KEYS[11], 2592000)
  end
end
if ARGV[9] == '1' then redis.call('HDEL', KEYS[1], 'over') end
if ARGV[10] == '1' then
  redis.call('HSET', KEYS[1], 'blocked', ARGV[12] ~= '' and ARGV[12] or now)
elseif ARGV[10] == '0' or (ARGV[10] == '' and standing == 'owner') then
  redis.call('HDEL', KEYS[1], 'blocked')
end
if tonumber(ARGV[7]) > 0 then
  redis.call('LTRIM', KEYS[2], ARGV[7], -1)
  redis.call('HINCRBY', KEYS[7], 'depth', -ARGV[7])
end
if ARGV[13] ~= '' then
  redis.call('ZADD', KEYS[12], 'LT', ARGV[13], ARGV[4])
  redis.call('HSET', KEYS[1], 'day', math.floor(now / 86400000))
end
redis.call('XACK', KEYS[3], 'workers', ARGV[3])
redis.call('XDEL', KEYS[3], ARGV[3])
if redis.call('LLEN', KEYS[2]) > 0 then
  redis.call('HSET', KEYS[1], 'entry', redis.call('XADD', KEYS[3], '*', 'chat', ARGV[4]))
else
  redis.call('HDEL', KEYS[1], 'entry')
end
return {'ok', standing}
