--[[ fund: give a living connection another funding key or wallet, only while it is still that wallet's.
KEYS[1] budget  hash
ARGV[1] wallet       whose it must be
ARGV[2] new_wallet   '' = keep
ARGV[3] change       '1' = take the funding of ARGV[4]
ARGV[4] funding      sealed; '' = none: requests are refused until there is another
RETURNS 1 done, 0 it is not connected by this wallet
REPEAT gives the same, with a newer version of the funding key. ]]
local budget_key = KEYS[1]
local fields = redis.call('HMGET', budget_key, 'state', 'wallet')
if (fields[1] ~= 'active' and fields[1] ~= 'paused' and ARGV[3] == '1') or fields[2] ~= ARGV[1] then return 0 end
if ARGV[2] ~= '' then redis.call('HSET', budget_key, 'wallet', ARGV[2]) end
if ARGV[3] == '1' then
  redis.call('HSET', budget_key, 'funding', ARGV[4])
  redis.call('HDEL', budget_key, 'funding_refused', 'funding_trial_ms')
  redis.call('HINCRBY', budget_key, 'funding_version', 1)
end
return 1
