--[[ claim: take the overdue holds of one budget, so that exactly one sweeper works on each.
KEYS[1] due   zset
ARGV[1] lease_ms   how long the claim lasts
ARGV[2] most       how many holds to take at once
RETURNS {now_ms, next_due_ms, id, id, ...}  next_due_ms is -1 when no hold is left here
REPEAT takes the next ones. ]]
-- include: window
local due_key = KEYS[1]
local now_ms = clock()
local ids = redis.call('ZRANGE', due_key, '-inf', whole(now_ms), 'BYSCORE', 'LIMIT', 0, tonumber(ARGV[2]))
for _, id in ipairs(ids) do
  redis.call('ZADD', due_key, 'XX', whole(now_ms + tonumber(ARGV[1])), id)
end
local first = redis.call('ZRANGE', due_key, 0, 0, 'WITHSCORES')
local answer = {now_ms, first[2] and tonumber(first[2]) or -1}
for _, id in ipairs(ids) do answer[#answer + 1] = id end
return answer
