-- Take a record that scoring did not write out of the store and the outbox, if it is still that one.
-- KEYS: record, outbox.  ARGV: identity, the whole record.
-- Answer: whether it was there.
if redis.call('GET', KEYS[1]) ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
