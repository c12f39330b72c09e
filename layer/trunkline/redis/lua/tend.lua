-- Look after held messages: give again what dead readers had, and what the caller has lost track of; ring the bell where
-- something may be given again.
-- KEYS: held:<channel>, canary. Derives: epoch, s:<sender>, again:<channel>, bell:<channel>, q:<channel>,
-- tended:<channel>, procs, grace, graced, dead.
-- ARGV: epoch, sender, number, chain, channel, most deliveries, consumer, server's milliseconds as the caller knew them
-- when it listed what it has, then the ids of that.
-- Returns OK and "<given again> <dead letters>". Or EPOCH, LATE, GAP.
-- Race: a take whose reply is on its way while the list is made: only what was given well before that counts as lost.
local MOST = 1000 -- entries of one reader that are looked at in one call
local refusal = refused(ARGV[1], ARGV[2], ARGV[3])
if refusal then return refusal end
local held, again, channel, now = KEYS[1], base .. 'again:' .. ARGV[5], ARGV[5], clock()
local most, caller, listed = tonumber(ARGV[6]), ARGV[7], tonumber(ARGV[8])
local returned, buried = 0, 0

local function give_again(entry, reason)
  if entry[4] >= most then
    bury(held, again, channel, entry[1], entry[4], now - entry[3], reason)
    buried = buried + 1
  else
    put_back(held, again, entry[1], entry[4], now)
    returned = returned + 1
  end
end

if redis.call('EXISTS', held) == 1 then
  local has = {}
  for i = 9, #ARGV do has[ARGV[i]] = true end
  for _, entry in ipairs(redis.call('XPENDING', held, GROUP, '-', '+', MOST, caller)) do
    if not has[entry[1]] and entry[3] > now - listed + DEAD_AFTER then
      give_again(entry, 'its reader neither finished it nor gave it back')
    end
  end
  -- One process at a time is enough to look for the dead; not always the same one, as each knows best what it left itself.
  local turn = redis.call('SET', base .. 'tended:' .. channel, '1', 'PX', 500 + now % 1000, 'NX')
  if turn and not in_grace(now) then
    for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', held, GROUP)) do
      local of = {}
      for i = 1, #consumer, 2 do of[consumer[i]] = consumer[i + 1] end
      local process = string.match(of['name'], '^[^.]*')
      local beat = redis.call('ZSCORE', base .. 'procs', process)
      local alive = beat and now - tonumber(beat) <= DEAD_AFTER
      if process == string.match(caller, '^[^.]*') then alive = of['name'] == caller end
      -- Who took a moment ago is alive, though its first beat may still be on its way.
      if of['name'] ~= NOBODY and not alive and of['idle'] > DEAD_AFTER then
        for _, entry in ipairs(redis.call('XPENDING', held, GROUP, '-', '+', MOST, of['name'])) do
          give_again(entry, 'the process that handled it died')
        end
        if #redis.call('XPENDING', held, GROUP, '-', '+', 1, of['name']) == 0 then
          redis.call('XGROUP', 'DELCONSUMER', held, GROUP, of['name'])
        end
      end
    end
  end
  close_stream(held)
end
if redis.call('LLEN', base .. 'q:' .. channel) > 0 or redis.call('ZCOUNT', again, '-inf', now) > 0 then
  ring(base .. 'bell:' .. channel, TAKEN_LIFE)
end
return answer(ARGV[2], ARGV[3], ARGV[4], returned .. ' ' .. buried)
