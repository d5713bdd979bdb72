-- What waits for its time in one partition. KEYS: later sweeps trash ages   ARGV: age in ms from which trash is overdue
-- Returns four lists: chats to wake, sweeps to hand out, messages whose deletion nobody confirmed, chats that hold something
-- too old
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return {
  redis.call('ZRANGEBYSCORE', KEYS[1], 0, now, 'LIMIT', 0, 100),
  redis.call('ZRANGEBYSCORE', KEYS[2], 0, now, 'LIMIT', 0, 100),
  redis.call('ZRANGEBYSCORE', KEYS[3], 0, now - ARGV[1], 'LIMIT', 0, 100),
  redis.call('ZRANGEBYSCORE', KEYS[4], 0, now, 'LIMIT', 0, 20)}
