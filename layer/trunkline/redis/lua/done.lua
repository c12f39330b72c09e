-- Remove held messages that were handled.
-- KEYS: held:<channel>, canary. Derives: epoch, s:<sender>, again:<channel>.
-- ARGV: epoch, sender, number, chain, channel, id...
-- Returns OK and an empty text. Or EPOCH, LATE, GAP.
-- Race: a reader that was taken for dead meanwhile. It did handle the message, so nobody else has to, whoever has it.
local refusal = refused(ARGV[1], ARGV[2], ARGV[3])
if refusal then return refusal end
if redis.call('EXISTS', KEYS[1]) == 1 then
  local again = base .. 'again:' .. ARGV[5]
  for i = 6, #ARGV, 1000 do forget(KEYS[1], again, {unpack(ARGV, i, math.min(i + 999, #ARGV))}) end
  close_stream(KEYS[1])
end
return answer(ARGV[2], ARGV[3], ARGV[4], '')
