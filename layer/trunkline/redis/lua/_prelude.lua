-- Prepended to every script. KEYS[1]: the key that the script is about; KEYS[2]: the canary, whose name ends every
-- derivation: all keys that a script touches carry the same hash tag.
local base = string.sub(KEYS[2], 1, -7)
local DEAD_AFTER = 5000 -- milliseconds without a beat
local STORE_LIFE = 180000 -- milliseconds; three times the longest retry time that the configuration accepts
local TAKEN_LIFE = 600000 -- milliseconds; how long a server may be away from a reader that waits for a take's reply

-- When a record ends. What is no record ends never: who reads it skips and counts it.
local function deadline_of(record)
  return tonumber(string.sub(record, 1, 13)) or math.huge
end

local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- The epoch, and what is stored of the caller's pipeline, as the last of the following functions found them.
local epoch, stored = false, false

local function another(known)
  if not epoch then return {'EPOCH', ''} end
  if string.sub(epoch, 1, #known + 1) ~= known .. ':' then return {'EPOCH', epoch} end
  return nil
end

-- A caller that knows another epoch is told the current one and nothing is done.
local function other_epoch(known)
  epoch = redis.call('GET', base .. 'epoch')
  return another(known)
end

-- The same for numbered calls, by sender and number. Races guarded against: a reply that got lost (the retry is
-- answered from the store) and a request that a proxy delivers late (refused: a higher number was seen).
-- ARGV[4] is '0', or "<floor>:<after>" behind other calls that are not answered yet: the lowest number among them, and
-- the one before this call, without which it must not be done: the order is kept when that one was refused.
-- The store: the highest number, then "|number:length:answer" for each call that may be asked again.
local function entry(at)
  local _, last, number, length = string.find(stored, '^|(%d+):(%d+):', at)
  return number, last and last + 1, last and last + length
end

local function refused(known, sender, number)
  local found = redis.call('MGET', base .. 'epoch', base .. 's:' .. sender)
  epoch, stored = found[1], found[2]
  local highest = stored and string.match(stored, '^%d+') or '0'
  if tonumber(number) <= tonumber(highest) then
    -- Before the epoch: what was done under an earlier one, with the same data, must not be done again.
    local at = #highest + 1
    while at <= #stored do
      local which, first, last = entry(at)
      if not which then break end
      if which == number then return {'OK', string.sub(stored, first, last)} end
      at = last + 1
    end
    return {'LATE'}
  end
  local other = another(known)
  if other then return other end
  local after = string.match(ARGV[4], ':(%d+)$')
  if after and after ~= '0' and after ~= highest then return {'GAP'} end
  return nil
end

local function answer(sender, number, chain, text)
  local before, floor = '', tonumber(string.match(chain, '^(%d+):'))
  local at = floor and stored and #string.match(stored, '^%d+') + 1 or 0
  while at > 0 and at <= #stored do
    local which, _, last = entry(at)
    if not which then break end
    if tonumber(which) >= floor then
      before = string.sub(stored, at)
      break
    end
    at = last + 1
  end
  local now = '|' .. number .. ':' .. #text .. ':' .. text
  redis.call('SET', base .. 's:' .. sender, number .. before .. now, 'PX', STORE_LIFE)
  return {'OK', text}
end

-- While nobody's beat arrived for longer than a heartbeat's life, the server was away, not the processes. Each gap is
-- forgiven once: where nobody else beats, a process that died stays dead. Derives: procs, grace, graced.
local function in_grace(now)
  if redis.call('EXISTS', base .. 'grace') == 1 then return true end
  local last = redis.call('ZREVRANGE', base .. 'procs', 0, 0, 'WITHSCORES')
  if last[2] and now - tonumber(last[2]) > DEAD_AFTER then
    if redis.call('GET', base .. 'graced') == last[2] then return false end
    redis.call('SET', base .. 'grace', '1', 'PX', DEAD_AFTER)
    redis.call('SET', base .. 'graced', last[2], 'PX', 86400000)
    return true
  end
  return false
end

-- A process that ended leaves its groups. Derives: of:<process>, g:<group>.
local function leave_groups(process)
  local groups = base .. 'of:' .. process
  for _, group in ipairs(redis.call('SMEMBERS', groups)) do
    redis.call('ZREM', base .. 'g:' .. group, 'p:' .. process)
  end
  redis.call('DEL', groups)
end

-- Lets a key live for at least so long; a little longer, so that this needn't be done each time.
local function keep(key, life)
  if redis.call('PTTL', key) < life then redis.call('PEXPIRE', key, life + math.floor(life / 4)) end
end

-- An inbox that nobody knew yet gets its life, its counts first: while they are there, the stream has one. The beats of
-- its process prolong both.
local function keep_inbox(counts, inbox, life)
  keep(counts, life)
  keep(inbox, life)
end

-- A bell that rings already is left alone.
local function ring(bell, life)
  if redis.call('LLEN', bell) == 0 then
    redis.call('RPUSH', bell, '1')
    redis.call('PEXPIRE', bell, life)
  end
end
