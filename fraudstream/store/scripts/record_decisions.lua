-- Record decisions that do not exist yet, and put them into the shard's outbox.
-- KEYS: marker, outbox, then per row: record, claim.
-- ARGV: incarnation, layout, generation, TTL in seconds;
--       per row: identity, digest, offset ('' = came by gRPC), value.
-- Answer: {'closed'} | {'open', per row: outcome, value of the record that exists, or the whole
--         record, with its digest, of a conflict with one}.
local next_offset = open_next()
if not next_offset then return {'closed'} end
local answer = {'open'}
local at = 5
for position = 3, #KEYS, 2 do
  local identity, digest, offset, value = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  at = at + 4
  local record = record_at(KEYS[position])
  local claim = redis.call('GET', KEYS[position + 1])
  local outcome, stored = 'recorded', ''
  if record then
    if string.sub(record, 1, 32) == digest then
      outcome, stored = 'exists', string.sub(record, 33)
    else
      outcome, stored = 'conflict', record
    end
  elseif claim and string.sub(claim, 1, 32) ~= digest then
    outcome = 'conflict'
  elseif offset ~= '' and tonumber(offset) < tonumber(next_offset) then
    outcome = 'applied'
  else
    redis.call('SET', KEYS[position], digest .. value, 'EX', ARGV[4])
    redis.call('ZADD', KEYS[2], now_ms(), identity)
  end
  answer[#answer + 1] = outcome
  answer[#answer + 1] = stored
end
return answer
