--[[ standing: read a budget's current state.
KEYS[1] budget  hash
KEYS[2] days    hash
RETURNS {now_ms, spent_nano, oldest_day, field, value, ...}  the fields of the budget's hash; oldest_day: the first day
  of the window with spend, -1 without spend
REPEAT reads again. ]]
-- include: window
-- include: now
local spent, oldest = 0, -1
local fields = redis.call('HGETALL', KEYS[1])
local buckets = redis.call('HGETALL', KEYS[2])
for i = 1, #buckets, 2 do
  local bucket = tonumber(buckets[i])
  local nano = tonumber(buckets[i + 1])
  if bucket > today - WINDOW_DAYS and nano ~= 0 then
    spent = spent + nano
    if oldest < 0 or bucket < oldest then oldest = bucket end
  end
end
local answer = {now_ms, spent, oldest}
for i = 1, #fields do answer[#answer + 1] = fields[i] end
return answer
