--[[ index: keep the list of budgets that may hold something overdue. Never needed for a balance.
KEYS[1] open   zset   budget -> ms when to look at it
ARGV[1] verb    'add' (look after_ms from now, or later if it is listed for later), 'look' (list what is ripe),
                'keep' (look again after_ms from now), 'drop' (unless it was listed anew since seen_ms)
ARGV[2] budget
ARGV[3] after_ms
ARGV[4] seen_ms
ARGV[5] most
RETURNS for 'look' {budget, seen_ms, ...}, else 1
REPEAT gives the same. ]]
-- include: window
local open_key, verb = KEYS[1], ARGV[1]
local now_ms = clock()
if verb == 'look' then
  return redis.call('ZRANGE', open_key, '-inf', whole(now_ms), 'BYSCORE', 'LIMIT', 0, tonumber(ARGV[5]), 'WITHSCORES')
elseif verb == 'add' then
  redis.call('ZADD', open_key, 'GT', whole(now_ms + tonumber(ARGV[3])), ARGV[2])
elseif verb == 'keep' then
  redis.call('ZADD', open_key, whole(now_ms + tonumber(ARGV[3])), ARGV[2])
elseif redis.call('ZSCORE', open_key, ARGV[2]) == ARGV[4] then
  redis.call('ZREM', open_key, ARGV[2])
end
return 1
