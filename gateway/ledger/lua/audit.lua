--[[ audit: read all data of a budget from which its sums can be checked. For operator's tools: it reads many holds.
KEYS[1] budget  hash
KEYS[2] days    hash
KEYS[3] due     zset
KEYS[4] ledger  stream
KEYS[5] queue   zset
ARGV[1] hold_prefix  the prefix of this budget's hold keys, in the same slot
ARGV[2] after        the newest entry that the caller has read; '' = none
ARGV[3] most         the most entries to return
RETURNS {now_ms, today, added, length, budget, days, holds, entries, records, waiting}  budget and days: {field, value, ...};
  holds: the members of due as {id, due_ms, hold, ...}; entries: as from XRANGE; records: {hold, ...}, the current record
  of each entry's request; '' for a missing hold. added: the number of entries ever written (-1: unknown), length: of
  those still there. waiting: ids of waiting requests
REPEAT reads again. ]]
-- include: window
-- include: now
local holds = {}
local due = redis.call('ZRANGE', KEYS[3], 0, -1, 'WITHSCORES')
for i = 1, #due, 2 do
  holds[#holds + 1] = due[i]
  holds[#holds + 1] = math.floor(due[i + 1])
  holds[#holds + 1] = redis.call('GET', ARGV[1] .. due[i]) or ''
end
local added, length = 0, redis.call('XLEN', KEYS[4])
if redis.call('EXISTS', KEYS[4]) == 1 then
  added = -1
  local about = redis.call('XINFO', 'STREAM', KEYS[4])
  for i = 1, #about, 2 do
    if about[i] == 'entries-added' then added = about[i + 1] end
  end
end
local first = ARGV[2] == '' and '-' or '(' .. ARGV[2]
local entries = redis.call('XRANGE', KEYS[4], first, '+', 'COUNT', tonumber(ARGV[3]))
local records = {}
for i, entry in ipairs(entries) do
  records[i] = redis.call('GET', ARGV[1] .. entry[2][2]) or ''
end
local waiting = {}
for i, waiter in ipairs(redis.call('ZRANGE', KEYS[5], 0, -1)) do waiting[i] = waiter:match('%S+$') end
return {now_ms, today, added, length, redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]), holds, entries, records,
  waiting}
