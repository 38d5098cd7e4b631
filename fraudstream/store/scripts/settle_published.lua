-- Take published decisions out of the outbox. A record that was lost meanwhile is put back where its
-- value came along, and asked for where it did not: its entry stays until then.
-- KEYS: outbox, records...  ARGV: TTL in seconds; per row: identity, digest..value or ''.
-- Answer: places of the rows whose value is asked for, from 0.
local missing = {}
local at = 2
for position = 2, #KEYS do
  local identity, record = ARGV[at], ARGV[at + 1]
  at = at + 2
  local is_there = redis.call('EXISTS', KEYS[position]) == 1
  if not is_there and record == '' then
    missing[#missing + 1] = position - 2
  else
    if not is_there then redis.call('SET', KEYS[position], record, 'EX', ARGV[1]) end
    redis.call('ZREM', KEYS[1], identity)
  end
end
return missing
