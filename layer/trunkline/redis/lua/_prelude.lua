-- Prepended to every script. KEYS[1]: the key that the script is about; KEYS[2]: the canary, whose name ends every
-- derivation: all keys that a script touches carry the same hash tag.
local base = string.sub(KEYS[2], 1, -7)
local DEAD_AFTER = 5000 -- milliseconds without a beat
local STORE_LIFE = 180000 -- milliseconds; three times the longest retry time that the configuration accepts
local TAKEN_LIFE = 600000 -- milliseconds; how long a server may be away from a reader that waits for a take's reply

local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- A caller that knows another epoch is told the current one and nothing is done.
local function other_epoch(known)
  local epoch = redis.call('GET', base .. 'epoch')
  if not epoch then return {'EPOCH', ''} end
  if string.sub(epoch, 1, #known + 1) ~= known .. ':' then return {'EPOCH', epoch} end
  return nil
end

-- Numbered calls: sender, number and whether it opens a pipeline. Races guarded against: a reply that got lost (the
-- retry is answered from the store) and a request that a proxy delivers late (refused: a higher number was seen).
local function seen_before(sender, number)
  local known = redis.call('HMGET', base .. 's:' .. sender, 'n', number)
  if known[2] then return {'OK', known[2]} end
  if known[1] and tonumber(number) <= tonumber(known[1]) then return {'LATE'} end
  return nil
end

local function answer(sender, number, first, text)
  local store = base .. 's:' .. sender
  if first == '1' then redis.call('DEL', store) end
  redis.call('HSET', store, 'n', number, number, text)
  redis.call('PEXPIRE', store, STORE_LIFE)
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

local function keep(key, life)
  if redis.call('PTTL', key) < life then redis.call('PEXPIRE', key, life) end
end

