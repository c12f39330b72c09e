-- Remove read messages from an inbox and count them down.
-- KEYS: in:<process>, canary. Derives: cnt:<process>.
-- ARGV: process, how many channels, for each of these: name ('' for group messages), bytes of all its messages, how
-- many; then the ids of them all in the same order.
-- Returns OK. Harmless when repeated: only what is still there counts.
local inbox, counts, channels = KEYS[1], base .. 'cnt:' .. ARGV[1], tonumber(ARGV[2])
local first = 3 + 3 * channels

local function remove(from, to)
  local removed = 0
  for i = from, to, 1000 do
    removed = removed + redis.call('XDEL', inbox, unpack(ARGV, i, math.min(i + 999, to)))
  end
  return removed
end

local PART = 4000 -- arguments at a time, as Lua passes some thousands at most

local function change(command, arguments)
  for i = 1, #arguments, PART do
    redis.call(command, counts, unpack(arguments, i, math.min(i + PART - 1, #arguments)))
  end
end

local function look(fields)
  local values = {}
  for i = 1, #fields, PART do
    local part = redis.call('HMGET', counts, unpack(fields, i, math.min(i + PART - 1, #fields)))
    if i == 1 then values = part else for j = 1, #part do values[#values + 1] = part[j] end end
  end
  return values
end

-- What the stream holds is unread, so it can be counted again; slowly, and hardly ever: a call was repeated.
local function count_again()
  local unread, bytes, last = {}, 0, '-'
  repeat
    local entries = redis.call('XRANGE', inbox, last, '+', 'COUNT', 100)
    for _, entry in ipairs(entries) do
      local record = entry[2][2]
      if entry[1] ~= last then
        bytes = bytes + #record
        if string.sub(record, 15, 15) == 'd' and #record > 15 then
          local channel = string.sub(record, 17, 16 + string.byte(record, 16))
          unread[channel] = (unread[channel] or 0) + 1
        end
        last = entry[1]
      end
    end
  until #entries < 100
  local fields = redis.call('HGETALL', counts)
  for i = 1, #fields, 2 do
    if fields[i] ~= '=bytes' and not unread[fields[i]] then redis.call('HDEL', counts, fields[i]) end
  end
  for channel, many in pairs(unread) do redis.call('HSET', counts, channel, many) end
  redis.call('HSET', counts, '=bytes', bytes)
end

local fields = {'=bytes', '=swept'}
for c = 3, first - 1, 3 do fields[#fields + 1] = ARGV[c] end
local values = look(fields)
local left = tonumber(values[1] or '0')

if values[2] then -- senders removed expired messages: which of ours were there is asked channel by channel
  local id, whole = first, true
  for c = 3, first - 1, 3 do
    local channel, many = ARGV[c], tonumber(ARGV[c + 2])
    local removed = remove(id, id + many - 1)
    if removed > 0 then
      left = left - math.floor(ARGV[c + 1] * removed / many)
      if channel ~= '' and redis.call('HINCRBY', counts, channel, -removed) <= 0 then
        redis.call('HDEL', counts, channel)
      end
    end
    whole = whole and removed == many
    id = id + many
  end
  redis.call('HSET', counts, '=bytes', math.max(left, 0))
  if whole then redis.call('HDEL', counts, '=swept') end
  return {'OK'}
end

local removed = remove(first, #ARGV)
if removed == 0 then return {'OK'} end
if removed < #ARGV - first + 1 then
  count_again()
  return {'OK'}
end
local kept, gone = {}, {}
for c = 3, first - 1, 3 do
  local channel, unread = ARGV[c], tonumber(values[c / 3 + 2] or '0') - ARGV[c + 2]
  left = left - ARGV[c + 1]
  if unread > 0 then
    kept[#kept + 1] = channel
    kept[#kept + 1] = unread
  elseif channel ~= '' then
    gone[#gone + 1] = channel
  end
end
kept[#kept + 1] = '=bytes' -- stays, also at zero: while it is there, the keys of this inbox have their life
kept[#kept + 1] = math.max(left, 0)
change('HSET', kept)
change('HDEL', gone)
return {'OK'}
