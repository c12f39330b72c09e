-- Give dead letters to readers again, as if they had never been given; they don't expire any more.
-- KEYS: dead, canary. Derives: epoch, s:<sender>, held:<channel>, again:<channel>, bell:<channel>.
-- ARGV: epoch, sender, number, chain, id...
-- Returns OK and one letter for each: k given again, m no such letter. Or EPOCH, LATE, GAP.
-- Race: two people who requeue the same letter: the second finds none.
local refusal = refused(ARGV[1], ARGV[2], ARGV[3])
if refusal then return refusal end
local letters, now = {}, clock()
for i = 5, #ARGV do
  local letter = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  if letter then
    local of = {}
    for j = 1, #letter[2], 2 do of[letter[2][j]] = letter[2][j + 1] end
    local held, again = base .. 'held:' .. of['c'], base .. 'again:' .. of['c']
    open_stream(held)
    local id = redis.call('XADD', held, '*', 'r', of['r'])
    redis.call('XCLAIM', held, GROUP, NOBODY, 0, id, 'RETRYCOUNT', 0, 'FORCE', 'JUSTID', 'LASTID', id)
    redis.call('ZADD', again, now, id)
    ring(base .. 'bell:' .. of['c'], TAKEN_LIFE)
    redis.call('XDEL', KEYS[1], ARGV[i])
    letters[#letters + 1] = 'k'
  else
    letters[#letters + 1] = 'm'
  end
end
close_stream(KEYS[1])
return answer(ARGV[2], ARGV[3], ARGV[4], table.concat(letters))
