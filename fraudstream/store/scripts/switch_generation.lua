-- Point a shard's marker at a generation that was filled, if it still names what the filler read at
-- its start, and this primary took the whole of the filling.
-- KEYS: marker, witness, note of the loss.
-- ARGV: incarnation, layout, generation and primary that were read ('' four times: no marker);
--       then the new incarnation, layout, generation and next.
-- Answer: 'switched' | 'lost' (fill again) | 'other' (somebody else was faster).
local fields = {'incarnation', 'layout', 'generation', 'primary'}
local marker = redis.call('HMGET', KEYS[1], unpack(fields))
for field = 1, 4 do
  if (marker[field] or '') ~= ARGV[field] then return 'other' end
end
if redis.call('GET', KEYS[2]) ~= serving() then return 'lost' end
redis.call('HSET', KEYS[1], 'incarnation', ARGV[5], 'layout', ARGV[6], 'generation', ARGV[7],
           'primary', serving(), 'next', ARGV[8])
redis.call('DEL', KEYS[2], KEYS[3])
return 'switched'
