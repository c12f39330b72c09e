-- Add up what a process counted, and keep what it says about itself.
-- KEYS: stats, canary. Derives: stats:names, stats:rows, stats:seen.
-- ARGV: reporter, number, 1 if it is its last one, its row, then (name, seven numbers)...
-- Returns OK. Each number of a reporter is added once.
-- Race: a report whose reply got lost and that comes again, or that a proxy delivers late.
-- A name's value: seven totals (sent, received, full, dropped, expired, group sends, unreadable records), then, for what was sent
-- per second: a ten seconds' window, how much fell into it, and into the one before. The totals' name is empty.
local LIFE = 86400000 -- milliseconds that counts are kept without a report, and a name without a change
local ROW_LIFE = 600000 -- milliseconds that a silent reporter's number is remembered
local MOST_NAMES = 1000
local now = clock()
local stats, names, rows, seen = KEYS[1], base .. 'stats:names', base .. 'stats:rows', base .. 'stats:seen'
local row = redis.call('HGET', rows, ARGV[1])
local last = row and tonumber(string.match(row, '^%d+')) or 0
local fresh = tonumber(ARGV[2]) > last
if ARGV[3] == '1' then
  redis.call('HSET', rows, ARGV[1], ARGV[2] .. ' ' .. string.format('%.0f', now) .. ' ')
elseif fresh then
  redis.call('HSET', rows, ARGV[1], ARGV[2] .. ' ' .. string.format('%.0f', now) .. ' ' .. ARGV[4])
end
redis.call('ZADD', seen, now, ARGV[1])
if fresh then
  local window = math.floor(now / 10000)
  for i = 5, #ARGV, 8 do
    local name = ARGV[i]
    local known = redis.call('HGET', stats, name)
    if not known and name ~= '' and redis.call('HLEN', stats) >= MOST_NAMES then
      name = '(other)'
      known = redis.call('HGET', stats, name)
    end
    local values = {}
    for value in string.gmatch(known or '0 0 0 0 0 0 0 0 0 0', '%S+') do values[#values + 1] = tonumber(value) end
    for j = 1, 7 do values[j] = values[j] + tonumber(ARGV[i + j]) end
    if values[8] ~= window then
      values[10] = values[8] == window - 1 and values[9] or 0
      values[8], values[9] = window, 0
    end
    values[9] = values[9] + tonumber(ARGV[i + 1]) + tonumber(ARGV[i + 6])
    for j = 1, 10 do values[j] = string.format('%.0f', values[j]) end
    redis.call('HSET', stats, name, table.concat(values, ' '))
    if name ~= '' then redis.call('ZADD', names, now, name) end
  end
end
for _, name in ipairs(redis.call('ZRANGEBYSCORE', names, '-inf', now - LIFE, 'LIMIT', 0, 20)) do
  redis.call('HDEL', stats, name)
  redis.call('ZREM', names, name)
end
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', seen, '-inf', now - ROW_LIFE, 'LIMIT', 0, 20)) do
  redis.call('HDEL', rows, gone)
  redis.call('ZREM', seen, gone)
end
for _, key in ipairs({stats, names, rows, seen}) do redis.call('PEXPIRE', key, LIFE) end
return {'OK'}
