-- Take messages out of a queue for a reader, and keep them under the reader's number until its next take.
-- KEYS: q:<channel>, canary. Derives: epoch, taken:<reader>, bell:<channel>.
-- ARGV: epoch, reader, number, most, channel.
-- Returns OK, how many had expired, whether some are left (1, 0), and the records. Or EPOCH, LATE.
-- Race: a reply that got lost (the same number gets the same messages again); a bell whose reader took only some.
local MOST_BYTES = 1048576 -- then it is enough for one reply, so that a slow way gets it through in time
local taken, queue, bell = base .. 'taken:' .. ARGV[2], KEYS[1], base .. 'bell:' .. ARGV[5]
local found = redis.call('MGET', base .. 'epoch', taken)
epoch = found[1]
local refusal = another(ARGV[1])
if refusal then return refusal end
if found[2] then
  local number, start = string.match(found[2], '^(%d+):()')
  if number == ARGV[3] then
    redis.call('PEXPIRE', taken, TAKEN_LIFE)
    return cmsgpack.unpack(string.sub(found[2], start))
  end
  if tonumber(ARGV[3]) < tonumber(number) then return {'LATE'} end
end
local now, most = clock(), tonumber(ARGV[4])
local reply, expired, got, bytes, more = {'OK', 0, 0}, 0, 0, 0, true
while more and got < most and bytes < MOST_BYTES do
  local part = math.min(most - got, 100)
  local records = redis.call('LRANGE', queue, 0, part - 1)
  more = #records == part
  local used = 0
  for _, record in ipairs(records) do
    if bytes >= MOST_BYTES then break end
    used = used + 1
    if deadline_of(record) > now then
      got = got + 1
      bytes = bytes + #record
      reply[3 + got] = record
    else
      expired = expired + 1
    end
  end
  if used > 0 then redis.call('LTRIM', queue, used, -1) end
end
reply[2] = expired
local left = redis.call('PTTL', queue)
if left > 0 then
  reply[3] = 1
  ring(bell, left + 60000)
end
-- Kept also when there was nothing: a proxy may deliver the same request once more, when there is something.
redis.call('SET', taken, ARGV[3] .. ':' .. cmsgpack.pack(reply), 'PX', TAKEN_LIFE)
return reply
