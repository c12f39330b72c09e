-- A process ends properly: it leaves its groups and the list of processes, and an inbox without messages goes with it.
-- KEYS: procs, canary. Derives: of:<process>, g:<group>, in:<process>, cnt:<process>.
-- ARGV: process.
-- Returns OK. Harmless when repeated.
-- Race: a late join of the same process; its entry ends like that of a dead process.
leave_groups(ARGV[1])
redis.call('ZREM', KEYS[1], ARGV[1])
local inbox = base .. 'in:' .. ARGV[1]
if redis.call('XLEN', inbox) == 0 then redis.call('DEL', inbox, base .. 'cnt:' .. ARGV[1]) end
return {'OK'}
