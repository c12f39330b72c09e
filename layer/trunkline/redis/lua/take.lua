-- Take messages out of a queue for a reader, and keep them under the reader's number until its next take.
-- KEYS: q:<channel>, canary. Derives: epoch, taken:<reader>, bell:<channel>.
-- ARGV: epoch, reader, number, most, channel.
-- Returns OK, how many had expired, whether some are left (1, 0), and the records. Or EPOCH, LATE.
-- Race: a reply that got lost (the same number gets the same messages again); a bell whose reader took only some.
local MOST_BYTES = 1048576 -- then it is enough for one reply, so that a slow way gets it through in time
local refusal = other_epoch(ARGV[1])
if refusal then return refusal end
local taken, queue, bell, now = base .. 'taken:' .. ARGV[2], KEYS[1], base .. 'bell:' .. ARGV[5], clock()
local known = redis.call('HMGET', taken, 'n', 'm')
if known[1] == ARGV[3] then
  redis.call('PEXPIRE', taken, TAKEN_LIFE)
  return cmsgpack.unpack(known[2])
end
if known[1] and tonumber(ARGV[3]) < tonumber(known[1]) then return {'LATE'} end
local reply, expired, got, bytes = {'OK', 0, 0}, 0, 0, 0
while got < tonumber(ARGV[4]) and bytes < MOST_BYTES do
  local record = redis.call('LPOP', queue)
  if not record then break end
  if tonumber(string.sub(record, 1, 13)) > now then
    got = got + 1
    bytes = bytes + #record
    reply[3 + got] = record
  else
    expired = expired + 1
  end
end
reply[2] = expired
if redis.call('LLEN', queue) > 0 then
  reply[3] = 1
  if redis.call('LLEN', bell) == 0 then redis.call('RPUSH', bell, '1') end
  keep(bell, math.max(1, redis.call('PTTL', queue)))
end
-- Kept also when there was nothing: a proxy may deliver the same request once more, when there is something.
redis.call('HSET', taken, 'n', ARGV[3], 'm', cmsgpack.pack(reply))
redis.call('PEXPIRE', taken, TAKEN_LIFE)
return reply
