-- Take rows that a generation holds out of their cards' pending lists.
-- KEYS: pending lists.  ARGV: finished identity..digest.
local is_finished = {}
for _, finished in ipairs(ARGV) do is_finished[finished] = true end
for _, list in ipairs(KEYS) do
  for _, entry in ipairs(redis.call('LRANGE', list, 0, -1)) do
    if is_finished[string.sub(entry, 1, 48)] then redis.call('LREM', list, 1, entry) end
  end
end
return 1
