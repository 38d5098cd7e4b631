-- Read values of a shard, if it is open and stands where the batch begins.
-- KEYS: marker, keys to read...  ARGV: incarnation, layout, generation, from ('' = anywhere).
-- Answer: {'closed'} | {'moved', next} | {'open', next, values...}.
local next_offset = open_next()
if not next_offset then return {'closed'} end
if ARGV[4] ~= '' and next_offset ~= ARGV[4] then return {'moved', next_offset} end
local answer = {'open', next_offset}
for position = 2, #KEYS do
  answer[position + 1] = redis.call('GET', KEYS[position])
end
return answer
