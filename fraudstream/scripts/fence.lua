-- Put before every script: what is asked of the marker, and who asks it.

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
