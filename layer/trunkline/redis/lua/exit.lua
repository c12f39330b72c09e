-- Take a process out of groups.
-- KEYS: of:<process>, canary. Derives: epoch, s:<sender>, g:<group>.
-- ARGV: epoch, sender, number, chain, process, group...
-- Returns OK and an empty text. Or EPOCH, LATE, GAP.
-- Race: a later join of the same process; the caller sends joins and leaves of one group one after the other.
local refusal = refused(ARGV[1], ARGV[2], ARGV[3])
if refusal then return refusal end
local member = 'p:' .. ARGV[5]
for i = 6, #ARGV do redis.call('ZREM', base .. 'g:' .. ARGV[i], member) end
for i = 6, #ARGV, 1000 do redis.call('SREM', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV))) end
return answer(ARGV[2], ARGV[3], ARGV[4], '')
