-- Leave a witness that is gone, or names another primary, where the store loses what comes after it.
-- KEYS: witness.  ARGV: life in seconds.
redis.call('SET', KEYS[1], serving(), 'EX', ARGV[1])
return 1
