-- Make a shard's marker where there is none; answer the marker that stands afterwards.
-- KEYS: marker.  ARGV: incarnation, layout, generation, next.  Answer: as read_marker.
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'incarnation', ARGV[1], 'layout', ARGV[2], 'generation', ARGV[3],
             'primary', serving(), 'next', ARGV[4])
end
local answer = redis.call('HMGET', KEYS[1], 'incarnation', 'layout', 'generation', 'primary', 'next')
answer[6] = serving()
return answer
