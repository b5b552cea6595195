--[[ standing: what a budget is worth now, read only.
KEYS[1] budget  hash
KEYS[2] days    hash
RETURNS {now_ms, spent_nano, field, value, ...}  the fields are the budget's own
REPEAT reads again. ]]
-- include: window
local now_ms, today = clock()
local spent = 0
local fields = redis.call('HGETALL', KEYS[1])
local buckets = redis.call('HGETALL', KEYS[2])
for i = 1, #buckets, 2 do
  local bucket = tonumber(buckets[i])
  if bucket > today - WINDOW_DAYS then spent = spent + tonumber(buckets[i + 1]) end
end
local answer = {now_ms, spent}
for i = 1, #fields do answer[#answer + 1] = fields[i] end
return answer
