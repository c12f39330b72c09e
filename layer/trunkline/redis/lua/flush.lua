-- Open or end a flush of a virtual shard: between the two every other script is refused.
-- KEYS: epoch, canary. Derives: procs, adopted.
-- ARGV: new epoch id, 'flushing' or 'flush'.
-- Returns OK and the live processes, each of which will adopt the new epoch.
-- Race: a sender between the deletion of keys and the new epoch.
local now = clock()
redis.call('SET', KEYS[1], ARGV[1] .. ':' .. string.format('%.0f', now) .. ':' .. ARGV[2])
local reply = {'OK'}
for _, process in ipairs(redis.call('ZRANGEBYSCORE', base .. 'procs', now - DEAD_AFTER, '+inf')) do
  reply[#reply + 1] = process
end
return reply
