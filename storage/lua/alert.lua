-- Notes what one process sees of the states that operators are told of. Whoever is the first to see that a state begins, or
-- that it has been over for long enough, writes the news of it in the same step: so there is one for each, however many look.
-- What is seen has an age: a process that has not looked for long must not bring back what others have seen to be over.
-- KEYS: alerts: a field for each state (JSON: since, seen: the newest sign that it lasts, clear: the first sign after that
--   that it does not, over, hold, values; all times in ms), '!N' for news that is not told yet, 'news' for the last N
-- ARGV: for each state: name, '1' or '0', for how long in ms, age of the sign in ms, hold: how long it must have been over in
--   ms, values (JSON)
-- Returns the names of the states that last, then the news as numbers and JSON by turns
local KEPT = 30 * 86400 * 1000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lasting, news = {}, {}

local function tell(name, state)
  local number = redis.call('HINCRBY', KEYS[1], 'news', 1)
  redis.call('HSET', KEYS[1], '!' .. number,
    cjson.encode({name = name, since = state.since, over = state.over or 0, values = state.values}))
end

for i = 1, #ARGV, 6 do
  local name, at, raw = ARGV[i], now - tonumber(ARGV[i + 3]), redis.call('HGET', KEYS[1], ARGV[i])
  local state = raw and cjson.decode(raw) or {over = 0, seen = 0}
  local changed = false
  if ARGV[i + 1] == '1' and state.over and at > state.over then
    state = {since = math.min(now - tonumber(ARGV[i + 2]), at), seen = at, hold = tonumber(ARGV[i + 4]), values = ARGV[i + 5]}
    changed = true
    tell(name, state)
  elseif ARGV[i + 1] == '1' and not state.over and at > state.seen then
    state.seen, changed = at, true
    if state.clear and state.clear <= at then state.clear = nil end
  elseif ARGV[i + 1] == '0' and not state.over and not state.clear and at > state.seen then
    state.clear, changed = at, true
  end
  if changed then redis.call('HSET', KEYS[1], name, cjson.encode(state)) end
end

local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local name = all[i]
  if name ~= 'news' and string.sub(name, 1, 1) ~= '!' then
    local state = cjson.decode(all[i + 1])
    if state.clear and not state.over and now - state.clear >= state.hold then
      state.over = state.clear
      redis.call('HSET', KEYS[1], name, cjson.encode(state))
      tell(name, state)
    elseif state.over and now - state.over > KEPT then
      redis.call('HDEL', KEYS[1], name)
    end
    if not state.over then lasting[#lasting + 1] = name end
  end
end
all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if string.sub(all[i], 1, 1) == '!' then
    news[#news + 1] = string.sub(all[i], 2)
    news[#news + 1] = all[i + 1]
  end
end
return {lasting, news}
