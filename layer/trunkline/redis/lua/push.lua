-- Put messages into a queue, at its end, or back to its front as they came from there.
-- KEYS: q:<channel>, canary. Derives: epoch, s:<sender>, bell:<channel>.
-- ARGV: epoch, sender, number, chain, channel, expiry ms, capacity, 'end' or 'front', record...
-- Records that go to the front bring their deadline along, no capacity applies to them, and the last one given is first.
-- Returns OK and one letter for each message: k kept, f full. Or EPOCH, LATE, GAP.
-- Race: two senders at the last free place; a reader that looks between the append and the bell.
local refusal = refused(ARGV[1], ARGV[2], ARGV[3])
if refusal then return refusal end
local queue, bell, now = KEYS[1], base .. 'bell:' .. ARGV[5], clock()
local expiry, capacity = tonumber(ARGV[6]), tonumber(ARGV[7])
local length = redis.call('LLEN', queue)
local before, many = length, #ARGV - 8
local kept = many
if ARGV[8] == 'front' then
  for i = 9, #ARGV do redis.call('LPUSH', queue, ARGV[i]) end
  length = length + many
else
  if length + many > capacity then
    local head = redis.call('LINDEX', queue, 0)
    while head and deadline_of(head) <= now do
      redis.call('LPOP', queue)
      length = length - 1
      head = redis.call('LINDEX', queue, 0)
    end
    kept = math.max(0, math.min(many, capacity - length))
  end
  local deadline = string.format('%013.0f', now + expiry)
  local part = {}
  for i = 9, 8 + kept do
    part[#part + 1] = deadline .. ARGV[i]
    if #part == 1000 or i == 8 + kept then
      redis.call('RPUSH', queue, unpack(part))
      part = {}
    end
  end
  length = length + kept
end
if length > 0 then
  keep(queue, expiry)
  if before == 0 then redis.call('DEL', bell) end -- rung for messages that are gone; it would end too early
  ring(bell, expiry * 2 + 60000)
end
return answer(ARGV[2], ARGV[3], ARGV[4], string.rep('k', kept) .. string.rep('f', many - kept))
