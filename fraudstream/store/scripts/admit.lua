-- Admit transactions that came by gRPC: known ones are answered, others join their card's pending list.
-- KEYS: marker, then per row: record, claim, pending list, card state.
-- ARGV: incarnation, layout, generation, longest list, life of a list in seconds,
--       age in ms at which an entry must be decided; per row: identity, digest, packed row.
-- An entry is identity..digest..time..row, its time by the store's clock.
-- Answer: {'closed'} | {'open', next, per row: outcome, value, state, pending entries before it}.
--         The value is that of the record that exists, or the whole record, with its digest, of a
--         conflict with one.
local next_offset = open_next()
if not next_offset then return {'closed'} end
local longest, now = tonumber(ARGV[4]), now_ms()
local decided_by = now - ARGV[6]
-- An old entry without a decision of its own: its scorer died before it recorded one.
local function is_ghost(entry, record_key)
  if struct.unpack('<i8', entry, 49) >= decided_by then return false end
  local hex = string.gsub(string.sub(entry, 1, 16), '.', function(byte)
    return string.format('%02x', string.byte(byte))
  end)
  local record = redis.call('GET', string.sub(record_key, 1, -33) .. hex)
  return not record or string.sub(record, 1, 32) ~= string.sub(entry, 17, 48)
end
local answer = {'open', next_offset}
local at = 7
for position = 2, #KEYS, 4 do
  local identity, digest, row = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  at = at + 3
  local record = record_at(KEYS[position])
  local claim = redis.call('GET', KEYS[position + 1])
  local outcome, value, state, before = 'admitted', '', false, {}
  if record then
    if string.sub(record, 1, 32) == digest then
      outcome, value = 'exists', string.sub(record, 33)
    else
      outcome, value = 'conflict', record
    end
  elseif claim and string.sub(claim, 1, 32) ~= digest then
    outcome = 'conflict'
  else
    local is_pending = false
    for _, other in ipairs(redis.call('LRANGE', KEYS[position + 2], 0, -1)) do
      if is_ghost(other, KEYS[position]) then
        redis.call('LREM', KEYS[position + 2], 1, other)
      elseif string.sub(other, 1, 16) == identity then
        if string.sub(other, 17, 48) ~= digest then outcome = 'conflict' end
        is_pending = true
        break
      else
        before[#before + 1] = other
      end
    end
    if outcome == 'admitted' and not is_pending and not claim then
      if #before >= longest then
        outcome = 'full'
      else
        local entry = identity .. digest .. struct.pack('<i8', now) .. row
        redis.call('RPUSH', KEYS[position + 2], entry)
        redis.call('EXPIRE', KEYS[position + 2], ARGV[5])
      end
    end
    if outcome == 'admitted' then state = redis.call('GET', KEYS[position + 3]) end
  end
  answer[#answer + 1] = outcome
  answer[#answer + 1] = value
  answer[#answer + 1] = state
  answer[#answer + 1] = before
end
return answer
