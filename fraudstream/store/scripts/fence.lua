-- Put before every script: what is asked of the marker, who asks it, and the store's clock.

-- Epoch milliseconds. The clocks of the store's callers may differ by an hour; this one orders them.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The record at a key, false for none. What is no longer than a digest is none, whoever wrote it.
local function record_at(key)
  local record = redis.call('GET', key)
  return record and #record > 32 and record
end

-- Replication id of the primary that runs this script. Looked at by each script and on the server
-- itself, so that no call that was begun before a failover passes the fence after it.
local function serving()
  return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end

-- The marker's `next`; nil where the shard is closed. KEYS[1]: marker. ARGV[1..3]: incarnation,
-- layout, generation.
local function open_next()
  local marker =
    redis.call('HMGET', KEYS[1], 'incarnation', 'layout', 'generation', 'primary', 'next')
  for field = 1, 3 do
    if marker[field] ~= ARGV[field] then return nil end
  end
  if marker[4] ~= serving() then return nil end
  return marker[5]
end
