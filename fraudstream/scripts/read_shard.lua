-- Read values of a shard, if it is open and stands where the batch begins.
-- KEYS: marker, keys to read...  ARGV: incarnation, layout, generation, primary, from ('' = anywhere).
-- Answer: {'closed'} | {'moved', next} | {'open', next, values...}.
local marker = redis.call('HMGET', KEYS[1], 'incarnation', 'layout', 'generation', 'primary', 'next')
for field = 1, 4 do
  if marker[field] ~= ARGV[field] then return {'closed'} end
end
if ARGV[5] ~= '' and marker[5] ~= ARGV[5] then return {'moved', marker[5]} end
local answer = {'open', marker[5]}
for position = 2, #KEYS do
  answer[position + 1] = redis.call('GET', KEYS[position])
end
return answer
