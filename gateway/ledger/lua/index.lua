--[[ index: maintain the sweeper's list of budgets that may have overdue holds. No balance depends on it.
KEYS[1] open   zset   budget -> ms when it is due for a sweep. The fraction is the result of the last sweeps: .0 a hold
                      was open, or is expected; .5 none was open; .75 none was open a lease ago
ARGV[1] verb    'add' (due after_ms from now, or later if it is listed so), 'look' (return due budgets, and postpone
                each by after_ms, which claims it), 'keep' (due after_ms from now), 'rest' (no hold is open: due after
                after_ms once more, and unlist it if none is open then either)
ARGV[2] budget
ARGV[3] after_ms
ARGV[4] most      for 'look'
RETURNS for 'look' {budget, ...}, else 1
REPEAT gives the same, except that 'look' does not return postponed budgets again. ]]
-- include: window
local open_key, verb = KEYS[1], ARGV[1]
-- include: now
local later_ms = now_ms + tonumber(ARGV[3] or '0')

local function list(ms)
  redis.call('ZADD', open_key, string.format('%.2f', ms), ARGV[2])
end

if verb == 'look' then
  local ripe = redis.call('ZRANGE', open_key, '-inf', whole(now_ms), 'BYSCORE', 'LIMIT', 0, tonumber(ARGV[4]), 'WITHSCORES')
  local budgets = {}
  for i = 1, #ripe, 2 do
    budgets[#budgets + 1] = ripe[i]
    local rested = tonumber(ripe[i + 1]) % 1 > 0
    redis.call('ZADD', open_key, string.format('%.2f', later_ms + (rested and 0.75 or 0)), ripe[i])
  end
  return budgets
elseif verb == 'add' then
  -- Drop the fraction: the process that adds it relies on the listing. Keep a later time.
  local listed = tonumber(redis.call('ZSCORE', open_key, ARGV[2]) or '0')
  redis.call('ZADD', open_key, whole(math.max(later_ms, math.floor(listed))), ARGV[2])
elseif verb == 'keep' then
  list(later_ms)
else
  -- A process adds a budget at most twice a lease, so one just added may get another hold without being added again.
  -- Only after a whole lease in which no process added it is it safe to unlist.
  local listed = tonumber(redis.call('ZSCORE', open_key, ARGV[2]) or '')
  local found = listed and listed % 1
  if found == 0 then
    list(later_ms + 0.5)
  elseif found == 0.75 then
    redis.call('ZREM', open_key, ARGV[2])
  end
end
return 1
