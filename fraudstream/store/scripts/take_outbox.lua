-- Take outbox entries that nobody has held for a while; from now on the caller holds them.
-- KEYS: outbox.  ARGV: how long nobody held them, in ms; most of them.
-- Answer: identities, those that were held longest ago first.
local now = now_ms()
local found =
  redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1], 'LIMIT', 0, ARGV[2])
for _, identity in ipairs(found) do
  redis.call('ZADD', KEYS[1], 'XX', now, identity)
end
return found
