-- Take a name that the sender sends to ("n:<channel>") out of a group, or tell another process to.
-- KEYS: g:<group>, canary. Derives: epoch, s:<sender>, in:<process>, cnt:<process>.
-- ARGV: epoch, sender, number, chain, member or '', other process or '', control record.
-- Returns OK and an empty text. Or EPOCH, LATE, GAP.
-- Race: a later join of the same process; the caller sends joins and leaves of one group one after the other.
local refusal = refused(ARGV[1], ARGV[2], ARGV[3])
if refusal then return refusal end
if ARGV[5] ~= '' then redis.call('ZREM', KEYS[1], ARGV[5]) end
if ARGV[6] ~= '' and redis.call('ZSCORE', KEYS[1], 'p:' .. ARGV[6]) then
  redis.call('XADD', base .. 'in:' .. ARGV[6], '*', 'r', string.format('%013.0f', clock() + 60000) .. ARGV[7])
  redis.call('HINCRBY', base .. 'cnt:' .. ARGV[6], '=bytes', #ARGV[7] + 13)
  keep_inbox(base .. 'cnt:' .. ARGV[6], base .. 'in:' .. ARGV[6], 120000)
end
return answer(ARGV[2], ARGV[3], ARGV[4], '')
