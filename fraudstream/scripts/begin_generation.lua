-- Begin to fill a generation: leave a witness that is gone where the store loses what is filled.
-- KEYS: witness.  ARGV: life in seconds.
redis.call('SET', KEYS[1], serving(), 'EX', ARGV[1])
return 1
