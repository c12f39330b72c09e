-- Ring a channel's bell again: somebody heard it who can't follow with a take.
-- KEYS: q:<channel>, canary. Derives: epoch, s:<sender>, bell:<channel>.
-- ARGV: epoch, sender, number, chain, channel.
-- Returns OK and an empty text. Or EPOCH, LATE, GAP.
-- Race: a reader that emptied the queue meanwhile; the bell rings only for what is there.
local refusal = refused(ARGV[1], ARGV[2], ARGV[3])
if refusal then return refusal end
local left = redis.call('PTTL', KEYS[1])
if left > 0 then ring(base .. 'bell:' .. ARGV[5], left + 60000) end
return answer(ARGV[2], ARGV[3], ARGV[4], '')
