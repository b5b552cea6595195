--[[ change: pause, resume, revoke a budget, or set its cap. Spend and open holds stay as they are.
KEYS[1] budget  hash
ARGV[1] verb       'pause', 'resume', 'revoke', 'lower' (never raises), 'cap', 'bar' (only what was approved before and
                   has not been connected yet: it never will be)
ARGV[2] cap_nano   for 'lower' and 'cap'
RETURNS 1 done, 0 nothing to change, -1 not connected, -2 that would raise the cap
REPEAT returns 0 or 1 and changes nothing more, but each 'bar' counts: what was approved before it never connects. ]]
-- include: window
local budget_key, verb = KEYS[1], ARGV[1]
local fields = redis.call('HMGET', budget_key, 'state', 'cap_nano')
local state, cap = fields[1], tonumber(fields[2] or '')
local now_ms = clock()
if verb == 'bar' then
  redis.call('HINCRBY', budget_key, 'revocations', 1)
  return 1
end
if verb == 'revoke' then
  if not state or state == 'revoked' then return 0 end
  redis.call('HINCRBY', budget_key, 'revocations', 1)
  redis.call('HSET', budget_key, 'state', 'revoked', 'revoked_ms', whole(now_ms))
  redis.call('HDEL', budget_key, 'funding', 'funding_refused', 'funding_trial_ms')
  return 1
end
if state ~= 'active' and state ~= 'paused' then return -1 end
if verb == 'pause' or verb == 'resume' then
  local wanted = verb == 'pause' and 'paused' or 'active'
  if state == wanted then return 0 end
  redis.call('HSET', budget_key, 'state', wanted)
  return 1
end
local wanted = tonumber(ARGV[2])
if verb == 'lower' and cap and wanted > cap then return -2 end
if wanted == cap then return 0 end
redis.call('HSET', budget_key, 'cap_nano', whole(wanted))
return 1
