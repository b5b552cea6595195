--[[ attach: write down what is known of an open hold, and how long it may live. Never moves money.
KEYS[1] due    zset
KEYS[2] hold   hash
KEYS[3] budget hash
ARGV[1] request_id
ARGV[2] sent            '1' = the request is on its way to OpenRouter
ARGV[3] generation_id   '' = not known yet
ARGV[4] estimate_nano   '' = keep what admission wrote
ARGV[5] due_ms          '' = keep; else ms from now when the hold is overdue
ARGV[6] attempt         '1' = one more look-up of the true cost was made
ARGV[7] ended_by        '' = keep
ARGV[8] funding         'refused' = OpenRouter refused the funding key inside its answer; '' = nothing was learnt
ARGV[9] trial_ms        how long a refused funding key rests before its first trial
RETURNS {code, active}  code 1 written, 0 the hold is closed or not known; active is 1 while the budget is active
REPEAT changes nothing, but for the count of attempts, which handing over (ended_by) begins anew. ]]
-- include: window
local due_key, hold_key = KEYS[1], KEYS[2]
local active = redis.call('HGET', KEYS[3], 'state') == 'active' and 1 or 0
if redis.call('HGET', hold_key, 'state') ~= 'open' then
  return {0, active}
end
if ARGV[2] == '1' then redis.call('HSET', hold_key, 'sent', '1') end
if ARGV[3] ~= '' then redis.call('HSET', hold_key, 'sent', '1', 'generation_id', ARGV[3]) end
if ARGV[4] ~= '' then redis.call('HSET', hold_key, 'estimate_nano', ARGV[4]) end
if ARGV[7] ~= '' then
  redis.call('HSET', hold_key, 'ended_by', ARGV[7])
  -- What was asked while it ran (a sweeper took it for an orphan) counts no more: its record is made only now.
  redis.call('HDEL', hold_key, 'attempts', 'reconcile_ms')
end
local now_ms = clock()
if ARGV[6] == '1' then
  redis.call('HINCRBY', hold_key, 'attempts', 1)
  redis.call('HSETNX', hold_key, 'reconcile_ms', whole(now_ms))
end
if ARGV[8] == 'refused' and redis.call('HGET', KEYS[3], 'funding_version') == redis.call('HGET', hold_key, 'funding_version') then
  redis.call('HSET', KEYS[3], 'funding_refused', '1', 'funding_trial_ms', whole(now_ms + tonumber(ARGV[9])))
end
if ARGV[5] ~= '' then
  redis.call('ZADD', due_key, 'XX', whole(now_ms + tonumber(ARGV[5])), ARGV[1])
end
return {1, active}
