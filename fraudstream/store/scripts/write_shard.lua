-- Write a finished batch of a shard and move its marker on, if nobody else was there.
-- KEYS: marker, marks, values..., then pending lists...
-- ARGV: incarnation, layout, generation, from, to, number of values, number of marks,
--       number of finished identities;
--       per value: its content, its TTL in seconds; per mark: field, content; finished identity..digest.
local next_offset = open_next()
if not next_offset then return {'closed'} end
if next_offset ~= ARGV[4] then return {'moved', next_offset} end
local values, marks, finished = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local at = 9
for position = 3, 2 + values do
  redis.call('SET', KEYS[position], ARGV[at], 'EX', ARGV[at + 1])
  at = at + 2
end
for _ = 1, marks do
  redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1])
  at = at + 2
end
local is_finished = {}
for position = at, at + finished - 1 do is_finished[ARGV[position]] = true end
for position = 3 + values, #KEYS do
  if redis.call('EXISTS', KEYS[position]) == 1 then
    for _, entry in ipairs(redis.call('LRANGE', KEYS[position], 0, -1)) do
      if is_finished[string.sub(entry, 1, 48)] then redis.call('LREM', KEYS[position], 1, entry) end
    end
  end
end
redis.call('HSET', KEYS[1], 'next', ARGV[5])
return {'open', ARGV[5]}
