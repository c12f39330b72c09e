-- A process' heartbeat on a virtual shard, and the greeting of every new connection.
-- KEYS: procs, canary. Derives: epoch, run, grace, graced, layout, adopted, in:<process>, cnt:<process>; of:<process> and g:<group>
-- of dead processes, a few of which it takes out of their groups.
-- ARGV: known epoch id or '', epoch id to create, process or '', life of an inbox ms, layout's fingerprint, whether the connection is new (1, 0).
-- Returns OK, server's milliseconds, the epoch ("id:created:kind"), whether the process was known (1, 0), the layout.
-- Another server than the one that made the epoch (a replica that was promoted, a restart with its data) may know less
-- than the processes do; it gets a new epoch, so that they all tell it their memberships again.
-- Race: a server that was away must not declare everybody dead when it returns; the first to notice sets a grace.
-- A full server refuses a script whose first write needs memory. This one needs none, so a process can always greet
-- the server, and then empty it.
redis.call('DEL', KEYS[2])
local now = clock()
epoch = redis.call('GET', base .. 'epoch')
if epoch then
  -- A flush whose caller died in the middle must not close the shard for ever.
  local made, kind = string.match(epoch, '^[^:]*:([^:]*):([^:]*)')
  if kind == 'flushing' and now - tonumber(made) > 15000 then epoch = false end
end
local moved = false
if ARGV[6] == '1' then
  local info = redis.pcall('INFO', 'server')
  local run = type(info) == 'string' and string.match(info, 'run_id:(%x+)')
  local before = redis.call('GET', base .. 'run')
  if run and run ~= before then
    redis.call('SET', base .. 'run', run)
    if before and epoch and string.match(epoch, '[^:]*$') ~= 'flushing' then epoch, moved = false, true end
  end
end
if not epoch then
  -- Who never knew another epoch can't tell a new server from one that lost everything; its age can.
  local info = redis.pcall('INFO', 'server')
  local age = type(info) == 'string' and tonumber(string.match(info, 'uptime_in_seconds:(%d+)')) or 60
  local kind = (ARGV[1] ~= '' or moved or age < 10) and 'restart' or 'start'
  epoch = ARGV[2] .. ':' .. string.format('%.0f', now) .. ':' .. kind
  redis.call('SET', base .. 'epoch', epoch)
end
local known, process = 0, ARGV[3]
if process ~= '' then
  local grace = in_grace(now)
  if redis.call('ZSCORE', KEYS[1], process) then known = 1 end
  redis.call('ZADD', KEYS[1], now, process)
  if not grace then
    for _, dead in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. now - DEAD_AFTER, 'LIMIT', 0, 4)) do
      leave_groups(dead) -- in the same step as the next line: who returns is unknown and joins everything again
      redis.call('ZREM', KEYS[1], dead)
    end
  end
  redis.call('HSET', base .. 'adopted', process, ARGV[1])
  redis.call('PEXPIRE', base .. 'adopted', 60000)
  redis.call('PEXPIRE', base .. 'cnt:' .. process, ARGV[4]) -- first: it must not outlive the stream
  redis.call('PEXPIRE', base .. 'in:' .. process, ARGV[4])
end
if redis.call('SETNX', base .. 'layout', ARGV[5]) == 1 then return {'OK', now, epoch, known, ARGV[5]} end
return {'OK', now, epoch, known, redis.call('GET', base .. 'layout')}
