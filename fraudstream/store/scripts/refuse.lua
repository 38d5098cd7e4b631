-- Take one transaction out of a card's pending list: it was refused and will have no decision.
-- KEYS: pending list.  ARGV: identity.
for _, entry in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  if string.sub(entry, 1, 16) == ARGV[1] then redis.call('LREM', KEYS[1], 1, entry) end
end
return 1
