-- Ring a channel's bell again: somebody heard it who can't follow with a take.
-- KEYS: q:<channel>, canary. Derives: epoch, s:<sender>, bell:<channel>.
-- ARGV: epoch, sender, number, first, channel.
-- Returns OK and an empty text. Or EPOCH, LATE.
-- Race: a reader that emptied the queue meanwhile; the bell rings only for what is there.
local refusal = other_epoch(ARGV[1]) or seen_before(ARGV[2], ARGV[3])
if refusal then return refusal end
local bell = base .. 'bell:' .. ARGV[5]
if redis.call('LLEN', KEYS[1]) > 0 and redis.call('LLEN', bell) == 0 then
  redis.call('RPUSH', bell, '1')
  keep(bell, math.max(1, redis.call('PTTL', KEYS[1])))
end
return answer(ARGV[2], ARGV[3], ARGV[4], '')
