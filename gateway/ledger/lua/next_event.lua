--[[ next_event: take the event that a budget's app is to be told next, in order, so that one sender alone tells it.
KEYS[1] events  stream
KEYS[2] told    hash   done: the last one that is done with; from: the one after which they are told again; tries and
                       next_ms: of the next one
ARGV[1] since_ms   what is older is told only when it is told again
ARGV[2] lease_ms   how long it is taken for; '' = it is looked at and not taken
RETURNS {-1} nothing is to be told, {wait_ms} another sender has taken it, or it was tried and waits, or
  {wait_ms, entry_id, tries, from, field, value, ...}  from: '' unless it is told again. Of what is taken wait_ms is 0
REPEAT within the lease tells how long to wait. ]]
-- include: window
local events_key, told_key = KEYS[1], KEYS[2]
local done, from, tries, next_ms = unpack(redis.call('HMGET', told_key, 'done', 'from', 'tries', 'next_ms'))
local now_ms = clock()
-- Nobody is kept waiting by a clock that stepped back.
local wait_ms = math.min(tonumber(next_ms or '0') - now_ms, 86400000)
local is_taken = ARGV[2] ~= ''
if is_taken and wait_ms > 0 then return {wait_ms} end
local is_known = done and tonumber(done:match('^%d+')) >= tonumber(ARGV[1])
local start = from and '(' .. from or is_known and '(' .. done or ARGV[1]
local entry = redis.call('XRANGE', events_key, start, '+', 'COUNT', 1)[1]
if not entry then
  if is_taken and (from or next_ms) then redis.call('HDEL', told_key, 'from', 'tries', 'next_ms') end
  return {-1}
end
if is_taken then
  redis.call('HSET', told_key, 'next_ms', whole(now_ms + tonumber(ARGV[2])))
  redis.call('PEXPIRE', told_key, 2592000000)
end
local answer = {math.max(wait_ms, 0), entry[1], tonumber(tries or '0'), from or ''}
for _, word in ipairs(entry[2]) do answer[#answer + 1] = word end
return answer
