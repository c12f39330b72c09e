-- Prepended to the scripts of messages that are held until they are done. Such a message is an entry of the stream
-- held:<channel>, pending in its group under the reader that has it, or under nobody while it waits in again:<channel>,
-- a sorted set by the time from which it may be given again. The group counts how often each was given.
local GROUP, NOBODY = 'readers', '-'

local function open_stream(held)
  if redis.call('EXISTS', held) == 0 then
    redis.call('XGROUP', 'CREATE', held, GROUP, '0', 'MKSTREAM')
    redis.call('XCLAIM', held, GROUP, NOBODY, 0, '0-1', 'JUSTID') -- whether it may be done
  end
  redis.call('PERSIST', held)
end

-- An empty stream stays for a while: a new one might use an id again.
local function close_stream(held)
  if redis.call('XLEN', held) == 0 then redis.call('PEXPIRE', held, TAKEN_LIFE) end
end

-- Who has an entry, since when in milliseconds, and how often it was given.
local function pending(held, id)
  if redis.call('EXISTS', held) == 0 then return nil end
  local found = redis.call('XPENDING', held, GROUP, id, id, 1)[1]
  if not found then return nil end
  return found[2], found[3], found[4]
end

local function put_back(held, again, id, times, due)
  redis.call('XCLAIM', held, GROUP, NOBODY, 0, id, 'RETRYCOUNT', times, 'JUSTID')
  redis.call('ZADD', again, due, id)
end

local function forget(held, again, ids)
  redis.call('XACK', held, GROUP, unpack(ids))
  redis.call('XDEL', held, unpack(ids))
  if redis.call('EXISTS', again) == 1 then redis.call('ZREM', again, unpack(ids)) end
end

-- Derives: dead.
local function bury(held, again, channel, id, times, last, reason)
  local entry = redis.call('XRANGE', held, id, id)[1]
  if entry then
    local first = string.match(id, '^%d+')
    redis.call('XADD', base .. 'dead', '*', 'c', channel, 'r', entry[2][2], 'n', times, 'f', first,
      'l', string.format('%.0f', last), 'w', reason)
    redis.call('PERSIST', base .. 'dead')
  end
  forget(held, again, {id})
end
