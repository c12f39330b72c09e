-- A process' heartbeat on a virtual shard, and the greeting of every new connection.
-- KEYS: procs, canary. Derives: epoch, grace, layout, adopted, in:<process>, cnt:<process>; of:<process> and g:<group>
-- of dead processes, a few of which it takes out of their groups.
-- ARGV: known epoch id or '', epoch id to create, process or '', life of an inbox ms, layout's fingerprint.
-- Returns OK, server's milliseconds, the epoch ("id:created:kind"), whether the process was known (1, 0), the layout.
-- Race: a server that was away must not declare everybody dead when it returns; the first to notice sets a grace.
local now = clock()
local epoch = redis.call('GET', base .. 'epoch')
if epoch then
  -- A flush whose caller died in the middle must not close the shard for ever.
  local made, kind = string.match(epoch, '^[^:]*:([^:]*):([^:]*)')
  if kind == 'flushing' and now - tonumber(made) > 15000 then epoch = false end
end
if not epoch then
  epoch = ARGV[2] .. ':' .. string.format('%.0f', now) .. ':' .. (ARGV[1] == '' and 'start' or 'restart')
  redis.call('SET', base .. 'epoch', epoch)
end
local known, process = 0, ARGV[3]
if process ~= '' then
  local grace = in_grace(now)
  if redis.call('ZSCORE', KEYS[1], process) then known = 1 end
  redis.call('ZADD', KEYS[1], now, process)
  if not grace then
    for _, dead in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. now - DEAD_AFTER, 'LIMIT', 0, 4)) do
      if leave_groups(dead) then redis.call('ZREM', KEYS[1], dead) end
    end
  end
  redis.call('HSET', base .. 'adopted', process, ARGV[1])
  redis.call('PEXPIRE', base .. 'adopted', 60000)
  redis.call('PEXPIRE', base .. 'in:' .. process, ARGV[4])
  redis.call('PEXPIRE', base .. 'cnt:' .. process, ARGV[4])
end
if redis.call('SETNX', base .. 'layout', ARGV[5]) == 1 then return {'OK', now, epoch, known, ARGV[5]} end
return {'OK', now, epoch, known, redis.call('GET', base .. 'layout')}
