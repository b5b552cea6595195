--[[ index: keep the list of budgets that may hold something overdue. Never needed for a balance.
KEYS[1] open   zset   budget -> ms when to look at it. The fraction tells what the last looks found: .0 something was
                      open, or is expected to be; .5 nothing was; .75 a lease has passed since nothing was
ARGV[1] verb    'add' (look after_ms from now, or later if it is listed for later), 'look' (list what is ripe, and put
                it off by after_ms, so that nobody else looks meanwhile), 'keep' (look again after_ms from now),
                'rest' (nothing is open: look once more after after_ms, and take it off if nothing is then)
ARGV[2] budget
ARGV[3] after_ms
ARGV[4] most      for 'look'
RETURNS for 'look' {budget, ...}, else 1
REPEAT gives the same, but for 'look', which does not list again what it has put off. ]]
-- include: window
local open_key, verb = KEYS[1], ARGV[1]
local now_ms = clock()
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
  -- Whoever adds it counts on it: a budget that rests does so no more, however late it was to be looked at.
  local listed = tonumber(redis.call('ZSCORE', open_key, ARGV[2]) or '0')
  redis.call('ZADD', open_key, whole(math.max(later_ms, math.floor(listed))), ARGV[2])
elseif verb == 'keep' then
  list(later_ms)
else
  -- A process adds a budget at most twice a lease: one it added a moment ago may get another hold unannounced. Only a
  -- whole lease in which nobody added it shows that nobody counts on its being listed.
  local listed = tonumber(redis.call('ZSCORE', open_key, ARGV[2]) or '')
  local found = listed and listed % 1
  if found == 0 then
    list(later_ms + 0.5)
  elseif found == 0.75 then
    redis.call('ZREM', open_key, ARGV[2])
  end
end
return 1
