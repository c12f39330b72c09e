-- Put messages into a queue, at its end, or back to its front as they came from there.
-- KEYS: q:<channel>, canary. Derives: epoch, s:<sender>, bell:<channel>.
-- ARGV: epoch, sender, number, first, channel, expiry ms, capacity, 'end' or 'front', record...
-- Records that go to the front bring their deadline along, no capacity applies to them, and the last one given is first.
-- Returns OK and one letter for each message: k kept, f full. Or EPOCH, LATE.
-- Race: two senders at the last free place; a reader that looks between the append and the bell.
local refusal = other_epoch(ARGV[1]) or seen_before(ARGV[2], ARGV[3])
if refusal then return refusal end
local queue, bell, now = KEYS[1], base .. 'bell:' .. ARGV[5], clock()
local expiry, capacity = tonumber(ARGV[6]), tonumber(ARGV[7])
local letters = {}
if ARGV[8] == 'front' then
  for i = 9, #ARGV do
    redis.call('LPUSH', queue, ARGV[i])
    letters[#letters + 1] = 'k'
  end
else
  local head = redis.call('LINDEX', queue, 0)
  while head and tonumber(string.sub(head, 1, 13)) <= now do
    redis.call('LPOP', queue)
    head = redis.call('LINDEX', queue, 0)
  end
  local length = redis.call('LLEN', queue)
  local deadline = string.format('%013.0f', now + expiry)
  for i = 9, #ARGV do
    if length >= capacity then
      letters[#letters + 1] = 'f'
    else
      redis.call('RPUSH', queue, deadline .. ARGV[i])
      length = length + 1
      letters[#letters + 1] = 'k'
    end
  end
end
keep(queue, expiry)
if redis.call('LLEN', bell) == 0 and redis.call('LLEN', queue) > 0 then redis.call('RPUSH', bell, '1') end
keep(bell, expiry)
return answer(ARGV[2], ARGV[3], ARGV[4], table.concat(letters))
