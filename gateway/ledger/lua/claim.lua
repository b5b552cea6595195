--[[ claim: claim overdue holds of one budget, so that exactly one sweeper works on each.
KEYS[1] due    zset
KEYS[2] budget hash
ARGV[1] lease_ms   how long the claim lasts
ARGV[2] most       the most holds to claim
RETURNS {now_ms, started_ms, next_due_ms, unlisted, id, id, ...}  started_ms: when this server was started, rounded up
  to a second; 0 if INFO is refused or no hold was claimed. next_due_ms: -1 if no hold is open. unlisted: 1 if a
  settlement wrote an event and the budget may not be listed for the senders
REPEAT claims the next ones. ]]
-- include: window
local due_key = KEYS[1]
-- include: now
-- The fraction of a time marks a request as sent, and must not delay it.
local due = redis.call('ZRANGE', due_key, '-inf', '(' .. whole(now_ms + 1), 'BYSCORE', 'LIMIT', 0, tonumber(ARGV[2]), 'WITHSCORES')
local ids = {}
for i = 1, #due, 2 do
  ids[#ids + 1] = due[i]
  redis.call('ZADD', due_key, 'XX', string.format('%.1f', now_ms + tonumber(ARGV[1]) + due[i + 1] % 1), due[i])
end
local first = redis.call('ZRANGE', due_key, 0, 0, 'WITHSCORES')
-- Most calls claim nothing, and INFO takes as long as all else.
local about = ids[1] and redis.pcall('INFO', 'server')
local uptime = type(about) == 'string' and about:match('uptime_in_seconds:(%d+)')
local started_ms = uptime and now_ms - tonumber(uptime) * 1000 or 0
local unlisted = redis.call('HEXISTS', KEYS[2], 'unlisted_events')
local answer = {now_ms, started_ms, first[2] and math.floor(first[2]) or -1, unlisted}
for _, id in ipairs(ids) do answer[#answer + 1] = id end
return answer
