--[[ told: note what became of the event that next_event gave.
KEYS[1] told  hash
ARGV[1] entry_id
ARGV[2] from      as next_event gave it
ARGV[3] after_ms  '' = it is done with; else ms until it is tried again
ARGV[4] attempt   '1' = it was tried and failed; '' = it was given back untried
RETURNS 1
REPEAT counts an attempt again, and changes nothing else. ]]
-- include: window
local told_key, entry_id, from = KEYS[1], ARGV[1], ARGV[2]
if ARGV[3] ~= '' then
  redis.call('HSET', told_key, 'next_ms', whole(clock() + tonumber(ARGV[3])))
  if ARGV[4] == '1' then redis.call('HINCRBY', told_key, 'tries', 1) end
  return 1
end
local done, now_from = unpack(redis.call('HMGET', told_key, 'done', 'from'))
local function is_later(one, other)
  local ms, number = one:match('^(%d+)-(%d+)$')
  local other_ms, other_number = other:match('^(%d+)-(%d+)$')
  if ms ~= other_ms then return tonumber(ms) > tonumber(other_ms) end
  return tonumber(number) > tonumber(other_number)
end
if not done or is_later(entry_id, done) then redis.call('HSET', told_key, 'done', entry_id) end
-- An operator who asks for them again meanwhile has asked for earlier ones, or for these once more.
if now_from and now_from == from then redis.call('HSET', told_key, 'from', entry_id) end
redis.call('HDEL', told_key, 'tries', 'next_ms')
return 1
