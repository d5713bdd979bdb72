-- The numbers of the minute, of the UTC day and of the UTC month (from the year 0 on) at a time in ms.
local function windows(ms)
  -- Days are counted from 1 March of the year 0 and years begin with March: so the leap day is the last of its year, and
  -- any five months from March or August on have 153 days. Four centuries have 146097.
  local days = math.floor(ms / 86400000) + 719468
  local day = days % 146097
  local year = math.floor((day - math.floor(day / 1460) + math.floor(day / 36524) - math.floor(day / 146096)) / 365)
  day = day - 365 * year - math.floor(year / 4) + math.floor(year / 100)
  local month = math.floor((5 * day + 2) / 153)
  return {m = math.floor(ms / 60000), d = math.floor(ms / 86400000), M = (400 * math.floor(days / 146097) + year) * 12 + month + 2}
end

-- Adds what a turn used to the counters of a hash, each 'window messages tokens micros'; another window starts anew.
local function charge(key, spend, ms)
  for name, window in pairs(windows(ms)) do
    local old = redis.call('HGET', key, 'u:' .. name) or ''
    local at, messages, tokens, micros = string.match(old, '^(%d+) (%d+) (%d+) (%d+)$')
    if tonumber(at) ~= window then messages, tokens, micros = 0, 0, 0 end
    -- Not as Lua writes numbers: from 10^14 on it drops digits.
    redis.call('HSET', key, 'u:' .. name,
      string.format('%.0f %.0f %.0f %.0f', window, messages + spend[1], tokens + spend[2], micros + spend[3]))
  end
end
