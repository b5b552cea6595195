--[[ connect: open a budget, or approve it again with another cap or funding key. Spend of the window stays.
KEYS[1] budget  hash
ARGV[1] cap_nano   '' = no cap (test mode only)
ARGV[2] funding    sealed funding key; '' = none (test mode only)
ARGV[3] wallet     the payer's wallet; '' = imported by the operator or test mode
ARGV[4] origin     the verified origin that asked; '' = none
ARGV[5] account    the short name that request ids and logs carry
ARGV[6] revocations  how many there were when this was approved; '' = it is approved now
RETURNS the new version of the funding key, -1 it was revoked or barred since it was approved
REPEAT approves again: the same state, a newer version. ]]
-- include: window
local budget_key = KEYS[1]
local revocations = ARGV[6] or ''
if revocations ~= '' and revocations ~= (redis.call('HGET', budget_key, 'revocations') or '0') then return -1 end
local now_ms = clock()
redis.call('HSET', budget_key, 'state', 'active', 'cap_nano', ARGV[1], 'funding', ARGV[2], 'wallet', ARGV[3],
  'origin', ARGV[4], 'account', ARGV[5], 'connected_ms', whole(now_ms))
redis.call('HSETNX', budget_key, 'created_ms', whole(now_ms))
redis.call('HDEL', budget_key, 'funding_refused', 'funding_trial_ms', 'revoked_ms')
return redis.call('HINCRBY', budget_key, 'funding_version', 1)
