-- Make a shard's marker where there is none, if the store lost nothing since its opener left a witness:
-- what the opener saw in the logs, or filled, afterwards still holds. Answer the marker that stands.
-- KEYS: marker, witness.  ARGV: incarnation, layout, generation, next.  Answer: as read_marker.
if redis.call('EXISTS', KEYS[1]) == 0 and redis.call('GET', KEYS[2]) == serving() then
  redis.call('HSET', KEYS[1], 'incarnation', ARGV[1], 'layout', ARGV[2], 'generation', ARGV[3],
             'primary', serving(), 'next', ARGV[4])
end
redis.call('DEL', KEYS[2])
local answer = redis.call('HMGET', KEYS[1], 'incarnation', 'layout', 'generation', 'primary', 'next')
answer[6] = serving()
return answer
