--[[ fund: replace the funding key of an active connection or grant that this wallet pays for, and write the receipt.
KEYS[1] budget   hash
KEYS[2] history  stream
KEYS[3] events   stream  events for webhooks
ARGV[1] wallet      the wallet that must be its payer
ARGV[2] funding     sealed; '' = none: requests are refused until there is another
ARGV[3] receipt_id  unique to the change: identifies a repeat
RETURNS 1 done, 0 nothing to change, or not connected by this wallet, or an ended grant
REPEAT returns 0 and changes nothing. ]]
-- include: window
-- include: receipt
-- include: event
-- include: uses
local budget_key, history_key, funding = KEYS[1], KEYS[2], ARGV[2]
local fields = redis.call('HMGET', budget_key, 'state', 'wallet', 'funding', 'uses', 'used', 'cap_nano')
-- include: now
if (fields[1] ~= 'active' and fields[1] ~= 'paused') or fields[2] ~= ARGV[1] then return 0 end
if fields[4] and has_ended(budget_key, fields[4], fields[5], now_ms) then return 0 end
if (funding == '' and (fields[3] or '') == '') or is_written(history_key, ARGV[3]) then return 0 end
redis.call('HSET', budget_key, 'funding', funding)
redis.call('HDEL', budget_key, 'funding_refused', 'funding_trial_ms')
redis.call('HINCRBY', budget_key, 'funding_version', 1)
local what = funding == '' and 'unfunded' or 'funded'
write_receipt(history_key, ARGV[3], what, 'payer', now_ms)
if not fields[4] then
  write_event(KEYS[3], 'connection.updated', 'change', what, 'state', fields[1], 'cap_nano', fields[6] or '', 'by', 'payer')
end
return 1
