-- Remove dead letters.
-- KEYS: dead, canary. Derives: epoch, s:<sender>.
-- ARGV: epoch, sender, number, chain, id...
-- Returns OK and one letter for each: k removed, m no such letter. Or EPOCH, LATE, GAP.
-- Race: somebody who requeues the same letter: whoever comes second finds none.
local refusal = refused(ARGV[1], ARGV[2], ARGV[3])
if refusal then return refusal end
local letters = {}
for i = 5, #ARGV do letters[#letters + 1] = redis.call('XDEL', KEYS[1], ARGV[i]) == 1 and 'k' or 'm' end
close_stream(KEYS[1])
return answer(ARGV[2], ARGV[3], ARGV[4], table.concat(letters))
