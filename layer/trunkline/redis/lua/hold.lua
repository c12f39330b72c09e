-- Take messages for a reader that says of each when it is done: they stay in the stream held:<channel> until then.
-- First come those that may be given again, then those of the queue.
-- KEYS: q:<channel>, canary. Derives: epoch, taken:<reader>, bell:<channel>, held:<channel>, again:<channel>.
-- ARGV: epoch, reader, number, most, channel, consumer.
-- Returns OK, how many had expired, whether some are left (1, 0), and id, how often given, record of each. Or EPOCH, LATE.
-- Race: a reply that got lost (the same number gets the same messages again, if they are still its own).
local MOST_BYTES = 1048576 -- as in a plain take
local MOST = 1000 -- messages in one take; the stack of the server's Lua is not large
local taken, queue, bell, now = base .. 'taken:' .. ARGV[2], KEYS[1], base .. 'bell:' .. ARGV[5], clock()
local held, again, consumer = base .. 'held:' .. ARGV[5], base .. 'again:' .. ARGV[5], ARGV[6]
local known = redis.call('MGET', base .. 'epoch', taken)
epoch = known[1]
local refusal = another(ARGV[1])
if refusal then return refusal end
local reply, ids, bytes = {'OK', 0, 0}, {}, 0

local function give(id, times, record)
  ids[#ids + 1] = id
  bytes = bytes + #record
  reply[#reply + 1] = id
  reply[#reply + 1] = times
  reply[#reply + 1] = record
end

-- Hand an entry that is pending to the reader.
local function claim(id, times)
  local entry = redis.call('XCLAIM', held, GROUP, consumer, 0, id, 'RETRYCOUNT', times)[1]
  if entry then give(id, times, entry[2][2]) else redis.call('XACK', held, GROUP, id) end
end

local number, start = string.match(known[2] or '', '^(%d+):()')
if number == ARGV[3] then
  local before = cmsgpack.unpack(string.sub(known[2], start))
  reply[2], reply[3] = before[1], before[2]
  for i = 3, #before do
    local who, _, times = pending(held, before[i])
    if who == consumer then claim(before[i], times) end
  end
  redis.call('PEXPIRE', taken, TAKEN_LIFE)
  return reply
end
if number and tonumber(ARGV[3]) < tonumber(number) then return {'LATE'} end
local most = math.min(tonumber(ARGV[4]), MOST)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', again, '-inf', now, 'LIMIT', 0, most)) do
  if bytes >= MOST_BYTES then break end
  redis.call('ZREM', again, id)
  local who, _, times = pending(held, id)
  if who then claim(id, times + 1) end
end
local fresh = {'XCLAIM', held, GROUP, consumer, 0}
local opened = false
while #ids < most and bytes < MOST_BYTES do
  if not opened then -- before anything is taken out: it fails where the user has no right to do it
    local first = redis.call('LRANGE', queue, 0, 0)[1]
    if first and deadline_of(first) > now then
      open_stream(held)
      opened = true
    end
  end
  local record = redis.call('LPOP', queue)
  if not record then break end
  if deadline_of(record) > now then
    local id = redis.call('XADD', held, '*', 'r', record)
    fresh[#fresh + 1] = id
    give(id, 1, record)
  else
    reply[2] = reply[2] + 1
  end
end
if #fresh > 5 then
  local last = fresh[#fresh]
  for _, word in ipairs({'RETRYCOUNT', 1, 'FORCE', 'JUSTID', 'LASTID', last}) do fresh[#fresh + 1] = word end
  redis.call(unpack(fresh))
end
if redis.call('LLEN', queue) > 0 or redis.call('ZCOUNT', again, '-inf', now) > 0 then
  reply[3] = 1
  ring(bell, TAKEN_LIFE)
end
redis.call('SET', taken, ARGV[3] .. ':' .. cmsgpack.pack({reply[2], reply[3], unpack(ids)}), 'PX', TAKEN_LIFE)
return reply
