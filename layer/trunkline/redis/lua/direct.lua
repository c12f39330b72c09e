-- Send direct messages to channels of one process.
-- KEYS: in:<process>, canary. Derives: epoch, s:<sender>, cnt:<process>.
-- ARGV: epoch, sender, number, chain, process, expiry ms, most messages, most bytes, then (channel, capacity, record)...
-- Returns OK and one letter for each message: k kept, f channel full, i inbox full. Or EPOCH, LATE, GAP.
-- Race: two senders at the last free place; the count and the append are one step.
local refusal = refused(ARGV[1], ARGV[2], ARGV[3])
if refusal then return refusal end
local inbox, counts, now = KEYS[1], base .. 'cnt:' .. ARGV[5], clock()
local expiry, most, most_bytes = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local length = redis.call('XLEN', inbox)
local fields = {'=bytes'}
for i = 9, #ARGV, 3 do fields[#fields + 1] = ARGV[i] end
local unread, known, swept

local function look()
  unread = {}
  local values = redis.call('HMGET', counts, unpack(fields))
  known = values[1]
  for i, field in ipairs(fields) do unread[field] = tonumber(values[i] or '0') end
  if length == 0 then unread['=bytes'] = 0 end -- acknowledgements count bytes by averages
end

local function write()
  local pairs_of = {}
  for field, many in pairs(unread) do
    if many > 0 or field == '=bytes' then
      pairs_of[#pairs_of + 1] = field
      pairs_of[#pairs_of + 1] = many
    end
  end
  redis.call('HSET', counts, unpack(pairs_of))
end

-- Expired heads make room; their owner removes them as well, and whoever comes second counts nothing.
local function drop_expired_heads()
  swept = true
  write()
  for _ = 1, 100 do -- one by one: they may be large, and mostly the first one lives
    local entry = redis.call('XRANGE', inbox, '-', '+', 'COUNT', 1)[1]
    if not entry then break end
    local record = entry[2][2]
    if deadline_of(record) > now then break end
    redis.call('XDEL', inbox, entry[1])
    length = length - 1
    redis.call('HINCRBY', counts, '=bytes', -#record)
    redis.call('HSET', counts, '=swept', 1) -- acknowledgements look more closely for a while
    if string.sub(record, 15, 15) == 'd' and #record > 15 then
      local channel = string.sub(record, 17, 16 + string.byte(record, 16))
      if redis.call('HINCRBY', counts, channel, -1) <= 0 then redis.call('HDEL', counts, channel) end
    end
  end
  look()
end

look()
local is_new = not known
local letters = {}
local deadline = string.format('%013.0f', now + expiry)
for i = 9, #ARGV, 3 do
  local channel, capacity, record = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
  local size = #record + 13
  if not swept and (unread[channel] >= capacity or length >= most or unread['=bytes'] + size > most_bytes) then
    drop_expired_heads()
  end
  if unread[channel] >= capacity then
    letters[#letters + 1] = 'f'
  elseif length >= most or unread['=bytes'] + size > most_bytes then
    letters[#letters + 1] = 'i'
  else
    redis.call('XADD', inbox, '*', 'r', deadline .. record)
    unread[channel] = unread[channel] + 1
    length = length + 1
    unread['=bytes'] = unread['=bytes'] + size
    letters[#letters + 1] = 'k'
  end
end
write()
if is_new then keep_inbox(counts, inbox, expiry * 2) end
return answer(ARGV[2], ARGV[3], ARGV[4], table.concat(letters))
