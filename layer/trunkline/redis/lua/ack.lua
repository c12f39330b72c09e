-- Remove read messages from an inbox and count them down.
-- KEYS: in:<process>, canary. Derives: cnt:<process>.
-- ARGV: process, then for each channel: name ('' for group messages), bytes of all its messages, how many, their ids...
-- Returns OK. Harmless when repeated: only what is still there counts.
local counts = base .. 'cnt:' .. ARGV[1]
local i, freed = 2, 0
while i <= #ARGV do
  local channel, bytes, many = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local removed = 0
  for j = i + 3, i + 2 + many, 1000 do
    removed = removed + redis.call('XDEL', KEYS[1], unpack(ARGV, j, math.min(j + 999, i + 2 + many)))
  end
  if removed > 0 then
    freed = freed + math.floor(bytes * removed / many)
    if channel ~= '' and redis.call('HINCRBY', counts, channel, -removed) <= 0 then
      redis.call('HDEL', counts, channel)
    end
  end
  i = i + 3 + many
end
-- '=bytes' stays, also at zero: while it is there, the keys of this inbox have their life.
if freed > 0 and redis.call('HINCRBY', counts, '=bytes', -freed) < 0 then redis.call('HSET', counts, '=bytes', 0) end
return {'OK'}
