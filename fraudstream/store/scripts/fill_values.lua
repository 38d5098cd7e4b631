-- Write values of one shard that nobody reads yet.
-- KEYS: values.  ARGV: 'NX' to leave those that are there, but for a life that would end sooner,
-- else ''; per value: content, life in seconds.
for position, key in ipairs(KEYS) do
  local content, life = ARGV[2 * position], ARGV[2 * position + 1]
  if ARGV[1] == '' then
    redis.call('SET', key, content, 'EX', life)
  elseif not redis.call('SET', key, content, 'EX', life, 'NX') then
    redis.call('EXPIRE', key, life, 'GT')
  end
end
return #KEYS
