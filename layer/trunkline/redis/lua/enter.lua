-- Put a process into groups.
-- KEYS: of:<process>, canary. Derives: epoch, s:<sender>, procs, g:<group>.
-- ARGV: epoch, sender, number, chain, process, life ms, group...
-- Returns OK and an empty text. Or EPOCH, LATE, GAP.
-- Race: a process that joins before its first beat would be taken for dead; joining counts as one.
local refusal = refused(ARGV[1], ARGV[2], ARGV[3])
if refusal then return refusal end
local now, life, member = clock(), tonumber(ARGV[6]), 'p:' .. ARGV[5]
for i = 7, #ARGV do
  local group = base .. 'g:' .. ARGV[i]
  redis.call('ZREMRANGEBYSCORE', group, '-inf', now)
  redis.call('ZADD', group, now + life, member)
  keep(group, life)
  redis.call('SADD', KEYS[1], ARGV[i])
end
keep(KEYS[1], life)
if not redis.call('ZSCORE', base .. 'procs', ARGV[5]) then redis.call('ZADD', base .. 'procs', now, ARGV[5]) end
return answer(ARGV[2], ARGV[3], ARGV[4], '')
