"""What happens to a budget behind the ledger's back, as scripts for its model test: days go by, a failover forgets."""

# Moves everything a budget remembers `ARGV[1]` days back: what was today is then that long ago.
AGE = """
local function aged(hold)
  local first, day, rest = hold:match('^([^\\n]*\\n[^\\n]*\\n[^\\n]*\\n[^\\n]*\\n[^\\n]*\\n)(%-?%d+)(.*)$')
  return first and first .. string.format('%.0f', day - ARGV[1]) .. rest or hold
end
local days = redis.call('HGETALL', KEYS[2])
redis.call('DEL', KEYS[2])
for i = 1, #days, 2 do redis.call('HSET', KEYS[2], string.format('%.0f', days[i] - ARGV[1]), days[i + 1]) end
if redis.call('HEXISTS', KEYS[1], 'window_day') == 1 then redis.call('HINCRBY', KEYS[1], 'window_day', -ARGV[1]) end
local entries = redis.call('XRANGE', KEYS[3], '-', '+')
redis.call('DEL', KEYS[3])
for _, entry in ipairs(entries) do
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'closed' then entry[2][i + 1] = aged(entry[2][i + 1]) end
  end
  redis.call('XADD', KEYS[3], entry[1], unpack(entry[2]))
end
for i = 4, #KEYS do
  local hold = redis.call('GET', KEYS[i])
  if hold then redis.call('SET', KEYS[i], aged(hold), 'KEEPTTL') end
end
return 1
"""

# As a failover that lost the admission leaves it: no hold, nothing held, nothing due.
LOSE = """
local nano = redis.call('GET', KEYS[3]):match('^[^\\n]*\\n[^\\n]*\\n[^\\n]*\\n[^\\n]*\\n(%d+)')
redis.call('HINCRBY', KEYS[1], 'held_nano', -nano)
redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('HEXISTS', KEYS[1], 'uses') == 1 then redis.call('HINCRBY', KEYS[1], 'used', -1) end
return redis.call('DEL', KEYS[3])
"""
