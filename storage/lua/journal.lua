-- Writes down what is about to be sent, before it is sent. Nothing may be sent unless this answers 'ok'.
-- KEYS: chat   ARGV: fence, epoch, turn, piece, hi, again ('1': the check right before the write), then the turn itself
--   for its first piece: record, header, take, pieces, kind, topic, seq, marker,
--   what changes in the chat when the turn ends (JSON, '' for nothing)
-- Returns {'ok', attempt, hi} | {'has', message id} | {'fence'} | {'epoch'}
local f = redis.call('HMGET', KEYS[1], 'fence', 'epoch', 'turn', 'mid:' .. ARGV[4], 'piece', 'hi', 't')
if f[1] ~= ARGV[1] then return {'fence'} end
if (f[2] or '0') ~= ARGV[2] then return {'epoch'} end
if f[3] == ARGV[3] and f[4] then return {'has', f[4]} end
if f[3] ~= ARGV[3] then
  if f[3] or ARGV[6] == '1' then return {'fence'} end
  redis.call('HSET', KEYS[1], 'turn', ARGV[3], 'record', ARGV[7], 'header', ARGV[8], 'take', ARGV[9], 'pieces', ARGV[10],
    'kind', ARGV[11], 'topic', ARGV[12], 'seq', ARGV[13], 'marker', ARGV[14], 'change', ARGV[15])
end
local hi = f[6]
if f[3] == ARGV[3] and f[5] == ARGV[4] then
  -- A send whose fate is unknown goes before this one: sweep for its copy afterwards, from the lowest mark on.
  if f[7] and ARGV[6] ~= '1' then redis.call('HSETNX', KEYS[1], 'doubt', hi) end
else
  hi = ARGV[5]
  redis.call('HSET', KEYS[1], 'piece', ARGV[4], 'hi', hi, 'attempt', 0)
end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 't', time[1] * 1000 + math.floor(time[2] / 1000))
local attempt = redis.call('HINCRBY', KEYS[1], 'attempt', ARGV[6] == '1' and 0 or 1)
return {'ok', attempt, hi}
