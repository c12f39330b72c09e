-- Send messages to a group: one record in the inbox of each live process that has members.
-- KEYS: g:<group>, canary. Derives: epoch, s:<sender>, procs, grace, graced, in:<process>, cnt:<process>.
-- ARGV: epoch, sender, number, chain, expiry ms, most messages, most bytes, record...
-- Returns OK and "<dropped inboxes>" followed by "\n<name>" for each normal channel in the group, to which the sender
-- sends itself. Or EPOCH, LATE, GAP, or WAIT with the milliseconds until memberships have settled after a restart.
-- Race: a process that joins while the message is on its way; membership and append are one step.
local refusal = refused(ARGV[1], ARGV[2], ARGV[3])
if refusal then return refusal end
local now = clock()
local _, made, kind = string.match(epoch, '^([^:]*):([^:]*):([^:]*)')
if kind == 'restart' and now - tonumber(made) < 1000 then return {'WAIT', 1000 - (now - tonumber(made))} end
local expiry, most, most_bytes = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local deadline = string.format('%013.0f', now + expiry)
local dropped, names, grace = 0, {}, nil
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')) do
  local who = string.sub(member, 3)
  if string.sub(member, 1, 2) == 'n:' then
    names[#names + 1] = '\n' .. who
  else
    local beat = redis.call('ZSCORE', base .. 'procs', who)
    local alive = beat and now - tonumber(beat) <= DEAD_AFTER
    if not alive then
      if grace == nil then grace = in_grace(now) end
      alive = grace
    end
    if alive then
      local inbox, counts = base .. 'in:' .. who, base .. 'cnt:' .. who
      local length = redis.call('XLEN', inbox)
      local known = redis.call('HGET', counts, '=bytes')
      local bytes = length > 0 and tonumber(known or '0') or 0 -- acknowledgements count them by averages
      for i = 8, #ARGV do
        if length >= most or bytes + #ARGV[i] > most_bytes then
          dropped = dropped + 1
        else
          redis.call('XADD', inbox, '*', 'r', deadline .. ARGV[i])
          length = length + 1
          bytes = bytes + #ARGV[i] + 13
        end
      end
      redis.call('HSET', counts, '=bytes', bytes)
      if not known then keep_inbox(counts, inbox, expiry * 2) end
    end -- a dead process is taken out of all its groups in one step, by the others' beats
  end
end
return answer(ARGV[2], ARGV[3], ARGV[4], dropped .. table.concat(names))
