-- Wake a reader that is blocked on its bells, because it has to wait for another channel too.
-- KEYS: nudge:<reader>, canary.
-- ARGV: epoch, sender, number, chain.
-- Returns OK and an empty text. Or EPOCH, LATE, GAP.
-- Race: a reader that is not blocked yet: the nudge stays in the list until it looks.
local refusal = refused(ARGV[1], ARGV[2], ARGV[3])
if refusal then return refusal end
if redis.call('LLEN', KEYS[1]) == 0 then redis.call('RPUSH', KEYS[1], '1') end
redis.call('PEXPIRE', KEYS[1], TAKEN_LIFE)
return answer(ARGV[2], ARGV[3], ARGV[4], '')
