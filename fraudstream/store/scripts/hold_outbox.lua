-- Say of outbox entries that their holder lives and is about to publish them.
-- KEYS: outbox.  ARGV: identities; one that left the outbox stays out.
local now = now_ms()
for _, identity in ipairs(ARGV) do
  redis.call('ZADD', KEYS[1], 'XX', now, identity)
end
