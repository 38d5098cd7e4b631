-- Write values of one shard that nobody reads yet.
-- KEYS: values.  ARGV: 'NX' to leave those that are there, else ''; per value: content, life in seconds.
for position, key in ipairs(KEYS) do
  local content, life = ARGV[2 * position], ARGV[2 * position + 1]
  if ARGV[1] == 'NX' then
    redis.call('SET', key, content, 'EX', life, 'NX')
  else
    redis.call('SET', key, content, 'EX', life)
  end
end
return #KEYS
