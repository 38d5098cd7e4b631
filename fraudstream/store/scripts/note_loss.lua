-- Note what was lost of a shard, and tell how long ago it was first seen by this primary.
-- KEYS: note.  ARGV: what was lost, life of the note in seconds.
-- Answer: milliseconds since then.
local loss, now = ARGV[1] .. ':' .. serving(), now_ms()
local noted = redis.call('HMGET', KEYS[1], 'loss', 'since')
if noted[1] == loss then return now - noted[2] end
redis.call('HSET', KEYS[1], 'loss', loss, 'since', now)
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 0
