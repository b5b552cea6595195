--[[ next_event: take a budget's next undelivered event, so that one sender at a time delivers them, in order.
KEYS[1] events    stream
KEYS[2] delivery  hash  done: the last entry that was delivered or given up; from: the entry before the next one of a
                        replay; tries, next_ms: of the next one
ARGV[1] since_ms   older events are delivered by a replay only
ARGV[2] lease_ms   no other sender gets the event for so long; '' = read it without taking it
RETURNS {-1} nothing is undelivered, {wait_ms} another sender has the event or its backoff lasts, or
  {wait_ms, entry_id, tries, from, field, value, ...}  from: '' unless in a replay; wait_ms is 0 when it was taken
REPEAT within the lease returns {wait_ms}. ]]
-- include: window
local events_key, delivery_key = KEYS[1], KEYS[2]
local done, from, tries, next_ms = unpack(redis.call('HMGET', delivery_key, 'done', 'from', 'tries', 'next_ms'))
-- include: now
-- Bounds the wait after a clock that stepped back.
local wait_ms = math.min(tonumber(next_ms or '0') - now_ms, 86400000)
local is_taken = ARGV[2] ~= ''
if is_taken and wait_ms > 0 then return {wait_ms} end
local is_known = done and tonumber(done:match('^%d+')) >= tonumber(ARGV[1])
local start = from and '(' .. from or is_known and '(' .. done or ARGV[1]
local entry = redis.call('XRANGE', events_key, start, '+', 'COUNT', 1)[1]
if not entry then
  if is_taken and (from or next_ms) then redis.call('HDEL', delivery_key, 'from', 'tries', 'next_ms') end
  return {-1}
end
if is_taken then
  redis.call('HSET', delivery_key, 'next_ms', whole(now_ms + tonumber(ARGV[2])))
  redis.call('PEXPIRE', delivery_key, 2592000000)
end
local answer = {math.max(wait_ms, 0), entry[1], tonumber(tries or '0'), from or ''}
for _, word in ipairs(entry[2]) do answer[#answer + 1] = word end
return answer
