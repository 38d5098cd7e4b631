-- Answer a shard's marker, and the primary that says so.
-- KEYS: marker.
-- Answer: incarnation, layout, generation, primary, next (all false without a marker), this primary.
local answer = redis.call('HMGET', KEYS[1], 'incarnation', 'layout', 'generation', 'primary', 'next')
answer[6] = serving()
return answer
