-- Put held messages back: to be given again, or to the dead letters when they were given often enough.
-- KEYS: held:<channel>, canary. Derives: epoch, s:<sender>, again:<channel>, bell:<channel>, dead.
-- ARGV: epoch, sender, number, chain, channel, most deliveries, then for each message: id, consumer, how often it was
-- given, what happened, pause ms, reason. What happened is 'failed' (this delivery counts), 'unseen' (it does not: no
-- handler saw the message) or 'dead' (it is not to be given again).
-- Returns OK and one letter for each message: w waits to be given again, d dead letter, g not the caller's any more.
-- Or EPOCH, LATE, GAP.
-- Race: a reader that was taken for dead meanwhile: its message is somebody else's, and is left to them.
local refusal = refused(ARGV[1], ARGV[2], ARGV[3])
if refusal then return refusal end
local held, again, now = KEYS[1], base .. 'again:' .. ARGV[5], clock()
local letters = {}
for i = 7, #ARGV, 6 do
  local id, times, what = ARGV[i], tonumber(ARGV[i + 2]), ARGV[i + 3]
  local who, idle, given = pending(held, id)
  if who ~= ARGV[i + 1] or given ~= times then
    letters[#letters + 1] = 'g'
  elseif what == 'dead' or (what == 'failed' and times >= tonumber(ARGV[6])) then
    bury(held, again, ARGV[5], id, times, now - idle, ARGV[i + 5])
    letters[#letters + 1] = 'd'
  else
    put_back(held, again, id, what == 'failed' and times or times - 1, now + tonumber(ARGV[i + 4]))
    letters[#letters + 1] = 'w'
  end
end
close_stream(held)
if redis.call('ZCOUNT', again, '-inf', now) > 0 then ring(base .. 'bell:' .. ARGV[5], TAKEN_LIFE) end
return answer(ARGV[2], ARGV[3], ARGV[4], table.concat(letters))
