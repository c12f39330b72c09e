-- Put a process into groups.
-- KEYS: of:<process>, canary. Derives: epoch, s:<sender>, procs, g:<group>.
-- ARGV: epoch, sender, number, chain, process, life ms, group...
-- Returns OK and an empty text. Or EPOCH, LATE, GAP.
-- Race: a process that joins before its first beat would be taken for dead; joining counts as one.
local refusal = refused(ARGV[1], ARGV[2], ARGV[3])
if refusal then return refusal end
local now, life, member = clock(), tonumber(ARGV[6]), 'p:' .. ARGV[5]
local ends, kept = string.format('%.0f', now + life), string.format('%.0f', life + math.floor(life / 4))
for i = 7, #ARGV do
  local group = base .. 'g:' .. ARGV[i]
  if redis.call('ZADD', group, ends, member) == 1 and redis.call('ZCARD', group) == 1 then
    redis.call('PEXPIRE', group, kept)
  else
    redis.call('ZREMRANGEBYSCORE', group, '-inf', now)
    keep(group, life)
  end
end
for i = 7, #ARGV, 1000 do redis.call('SADD', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV))) end
keep(KEYS[1], life)
if not redis.call('ZSCORE', base .. 'procs', ARGV[5]) then redis.call('ZADD', base .. 'procs', now, ARGV[5]) end
return answer(ARGV[2], ARGV[3], ARGV[4], '')
