-- Send direct messages to channels of one process.
-- KEYS: in:<process>, canary. Derives: epoch, s:<sender>, cnt:<process>.
-- ARGV: epoch, sender, number, first, process, expiry ms, most messages, most bytes, then (channel, capacity, record)...
-- Returns OK and one letter for each message: k kept, f channel full, i inbox full. Or EPOCH, LATE.
-- Race: two senders at the last free place; the count and the append are one step.
local refusal = other_epoch(ARGV[1]) or seen_before(ARGV[2], ARGV[3])
if refusal then return refusal end
local inbox, counts, now = KEYS[1], base .. 'cnt:' .. ARGV[5], clock()
local expiry, most, most_bytes = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local length = redis.call('XLEN', inbox)
local bytes = tonumber(redis.call('HGET', counts, '=bytes') or '0')
local swept = false

-- Expired heads make room; their owner removes them as well, and whoever comes second counts nothing.
local function drop_expired_heads()
  swept = true
  for _ = 1, 100 do -- one by one: they may be large, and mostly the first one lives
    local entry = redis.call('XRANGE', inbox, '-', '+', 'COUNT', 1)[1]
    if not entry then return end
    local record = entry[2][2]
    if tonumber(string.sub(record, 1, 13)) > now then return end
    redis.call('XDEL', inbox, entry[1])
    length = length - 1
    bytes = bytes - #record
    if string.sub(record, 15, 15) == 'd' then
      local channel = string.sub(record, 17, 16 + string.byte(record, 16))
      if redis.call('HINCRBY', counts, channel, -1) <= 0 then redis.call('HDEL', counts, channel) end
    end
  end
end

local letters = {}
local deadline = string.format('%013.0f', now + expiry)
for i = 9, #ARGV, 3 do
  local channel, capacity, record = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
  local unread = tonumber(redis.call('HGET', counts, channel) or '0')
  if not swept and (unread >= capacity or length >= most or bytes + #record > most_bytes) then
    drop_expired_heads()
    unread = tonumber(redis.call('HGET', counts, channel) or '0')
  end
  if unread >= capacity then
    letters[#letters + 1] = 'f'
  elseif length >= most or bytes + #record > most_bytes then
    letters[#letters + 1] = 'i'
  else
    redis.call('XADD', inbox, '*', 'r', deadline .. record)
    redis.call('HINCRBY', counts, channel, 1)
    length = length + 1
    bytes = bytes + #record + 13
    letters[#letters + 1] = 'k'
  end
end
redis.call('HSET', counts, '=bytes', bytes)
keep(inbox, expiry * 2)
keep(counts, expiry * 2)
return answer(ARGV[2], ARGV[3], ARGV[4], table.concat(letters))
