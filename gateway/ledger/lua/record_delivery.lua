--[[ record_delivery: record the outcome of an attempt to deliver the event that next_event returned.
KEYS[1] delivery  hash
ARGV[1] entry_id
ARGV[2] from      as next_event returned it
ARGV[3] after_ms  '' = delivered or given up; else ms until the next attempt
ARGV[4] attempt   '1' = the attempt failed; '' = none was made
RETURNS 1
REPEAT counts an attempt again, and changes nothing else. ]]
-- include: window
local delivery_key, entry_id, from = KEYS[1], ARGV[1], ARGV[2]
if ARGV[3] ~= '' then
  -- include: now
  redis.call('HSET', delivery_key, 'next_ms', whole(now_ms + tonumber(ARGV[3])))
  if ARGV[4] == '1' then redis.call('HINCRBY', delivery_key, 'tries', 1) end
  return 1
end
local done, now_from = unpack(redis.call('HMGET', delivery_key, 'done', 'from'))
local function is_later(one, other)
  local ms, number = one:match('^(%d+)-(%d+)$')
  local other_ms, other_number = other:match('^(%d+)-(%d+)$')
  if ms ~= other_ms then return tonumber(ms) > tonumber(other_ms) end
  return tonumber(number) > tonumber(other_number)
end
if not done or is_later(entry_id, done) then redis.call('HSET', delivery_key, 'done', entry_id) end
-- A replay that was requested meanwhile has another `from` and keeps it.
if now_from and now_from == from then redis.call('HSET', delivery_key, 'from', entry_id) end
redis.call('HDEL', delivery_key, 'tries', 'next_ms')
return 1
