-- Take published decisions out of the outbox, and put records back that were lost meanwhile.
-- KEYS: outbox, records...  ARGV: TTL in seconds; per row: identity, digest..value.
local at = 2
for position = 2, #KEYS do
  redis.call('SET', KEYS[position], ARGV[at + 1], 'NX', 'EX', ARGV[1])
  redis.call('ZREM', KEYS[1], ARGV[at])
  at = at + 2
end
return #KEYS - 1
