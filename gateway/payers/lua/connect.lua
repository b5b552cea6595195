--[[ connect: open a budget, or re-approve it with another cap or funding key, and write the receipt. Spend is kept.
KEYS[1] budget   hash
KEYS[2] history  stream
KEYS[3] queue    zset    requests that wait for money of this budget
KEYS[4] alive    hash
KEYS[5] events   stream  events for webhooks
ARGV[1] cap_nano   '' = no cap (test mode only)
ARGV[2] funding    sealed funding key; '' = none (test mode only)
ARGV[3] wallet     the payer's wallet; '' = imported by the operator or test mode
ARGV[4] origin     the verified origin that requested it; '' = none
ARGV[5] account    the budget's short name in request ids and logs
ARGV[6] revocations  their number when this was approved; '' = it is approved now
ARGV[7] receipt_id   unique to the approval: identifies a repeat
ARGV[8] by           who approved: 'payer', 'app' (test mode), 'operator'
ARGV[9] text         the text that the payer approved; '' = none
ARGV[10] sha256      of the text
For a grant, which is approved once under an owner of its own, three more:
ARGV[11] uses        its number of requests
ARGV[12] life_ms     its lifetime from now
ARGV[13] keep_ms     how long its keys are kept after its end
RETURNS the version of the funding key, -1 it was revoked or barred since the approval
REPEAT changes nothing and returns the version or, after a revocation, -1. A call without text and funding key that
would change nothing writes no receipt either. ]]
-- include: window
-- include: queue
-- include: receipt
-- include: event
local budget_key, history_key = KEYS[1], KEYS[2]
local cap, funding, wallet, origin, text = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[9]
local known = redis.call('HMGET', budget_key, 'state', 'cap_nano', 'funding', 'wallet', 'origin', 'funding_version',
  'revocations', 'waiting_ms', 'approval')
local is_same = text == '' and funding == '' and known[1] == 'active' and known[2] == cap and known[3] == ''
  and known[4] == wallet and known[5] == origin
if ARGV[6] ~= '' and ARGV[6] ~= (known[7] or '0') then return -1 end
-- The budget stores its last approval, because an app may write any number of receipts after it by lowering the cap.
if is_same or known[9] == ARGV[7] or is_written(history_key, ARGV[7]) then return tonumber(known[6]) end
-- include: now
redis.call('HSET', budget_key, 'state', 'active', 'cap_nano', cap, 'funding', funding, 'wallet', wallet,
  'origin', origin, 'account', ARGV[5], 'approval', ARGV[7], 'connected_ms', whole(now_ms))
redis.call('HSETNX', budget_key, 'created_ms', whole(now_ms))
-- While it was ended no threshold was due, so the next one is looked for anew.
redis.call('HDEL', budget_key, 'funding_refused', 'funding_trial_ms', 'revoked_ms', 'next_threshold_nano')
if known[8] then queue_of(budget_key, KEYS[3], KEYS[4]).tell_all() end
write_receipt(history_key, ARGV[7], 'approved', ARGV[8], now_ms, 'cap_nano', cap, 'origin', origin, 'text', text,
  'sha256', ARGV[10])
if known[2] ~= cap then redis.call('HDEL', budget_key, 'threshold_days') end
if ARGV[11] then
  redis.call('HSET', budget_key, 'uses', ARGV[11], 'used', '0', 'expires_ms', whole(now_ms + tonumber(ARGV[12])))
  for _, key in ipairs({budget_key, history_key}) do redis.call('PEXPIRE', key, whole(ARGV[12] + ARGV[13])) end
elseif known[1] == 'active' or known[1] == 'paused' then
  write_event(KEYS[5], 'connection.updated', 'change', 'approved', 'state', 'active', 'cap_nano', cap, 'by', ARGV[8])
else
  write_event(KEYS[5], 'connection.created', 'cap_nano', cap, 'by', ARGV[8])
end
return redis.call('HINCRBY', budget_key, 'funding_version', 1)
