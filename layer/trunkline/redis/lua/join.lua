-- Put a member into a group: another process ("p:<id>") or a name that the sender sends to ("n:<channel>").
-- KEYS: g:<group>, canary. Derives: epoch, s:<sender>, procs, of:<process>, in:<process>,
-- cnt:<process>.
-- ARGV: epoch, sender, number, chain, member, life ms, process to count as alive or '', other process or '', control record.
-- Returns OK and an empty text. Or EPOCH, LATE, GAP.
-- Race: a process that joins before its first beat would be taken for dead; joining counts as one.
local refusal = refused(ARGV[1], ARGV[2], ARGV[3])
if refusal then return refusal end
local now, life = clock(), tonumber(ARGV[6])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + life, ARGV[5])
keep(KEYS[1], life)
if string.sub(ARGV[5], 1, 2) == 'p:' then
  local groups = base .. 'of:' .. string.sub(ARGV[5], 3)
  redis.call('SADD', groups, string.sub(KEYS[1], #base + 3))
  keep(groups, life)
end
if ARGV[7] ~= '' and not redis.call('ZSCORE', base .. 'procs', ARGV[7]) then
  redis.call('ZADD', base .. 'procs', now, ARGV[7])
end
if ARGV[8] ~= '' then
  redis.call('XADD', base .. 'in:' .. ARGV[8], '*', 'r', string.format('%013.0f', now + life) .. ARGV[9])
  redis.call('HINCRBY', base .. 'cnt:' .. ARGV[8], '=bytes', #ARGV[9] + 13)
  keep_inbox(base .. 'cnt:' .. ARGV[8], base .. 'in:' .. ARGV[8], 120000)
end
return answer(ARGV[2], ARGV[3], ARGV[4], '')
