--[[ settle: move a hold into spend at its cost, or void it; write the ledger. Once for each hold.
KEYS[1] budget  hash
KEYS[2] days    hash
KEYS[3] due     zset
KEYS[4] hold    hash
KEYS[5] ledger  stream
ARGV[1] request_id
ARGV[2] status             'settled' (a cost that OpenRouter stated), 'estimated', 'void'
ARGV[3] cost_nano
ARGV[4] generation_id
ARGV[5] model              the model that answered; '' = the one that was asked for
ARGV[6] prompt_tokens      '' = not known
ARGV[7] completion_tokens  '' = not known
ARGV[8] funding_verdict    'works', 'refused' or '' (nothing was learnt)
ARGV[9] trial_ms           how long a refused funding key rests before its first trial
ARGV[10] keep_days         how long the ledger is kept
ARGV[11] ended_by          why the request ended: complete, client, upstream, revoked, refused, crash, store
RETURNS {code, status, cost_nano, overrun_nano}  code 1 booked, 0 it was closed before: the first answer again
REPEAT changes nothing. One exception: a hold closed at an estimate, or voided by the sweeper, takes a cost that
  OpenRouter states later; the ledger then gets a second entry with the difference. ]]
-- include: window
local budget_key, days_key, due_key, hold_key, ledger_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local now_ms, today = clock()
local status = ARGV[2]
local cost = status == 'void' and 0 or tonumber(ARGV[3])
local hold = redis.call('HMGET', hold_key, 'state', 'nano', 'day', 'cost_nano', 'overrun_nano', 'model', 'admitted_ms',
  'funding_version', 'generation_id', 'code')
local state = hold[1]
-- Also when the hold itself is gone: a name left here would be claimed for ever.
redis.call('ZREM', due_key, ARGV[1])
local closed = state and state ~= 'open'
if closed and (state == 'settled' or status ~= 'settled') then
  return {0, state, tonumber(hold[4] or '0'), tonumber(hold[5] or '0')}
end

local keep_days = tonumber(ARGV[10])
local kept_ms = keep_days * DAY_SECONDS * 1000
if not state and status == 'void' then
  -- The hold may still be on its way (an admission that outlived its deadline): leave word that it is void.
  redis.call('HSET', hold_key, 'state', 'void', 'cost_nano', '0', 'settled_ms', whole(now_ms), 'ended_by', ARGV[11])
  redis.call('PEXPIRE', hold_key, whole(kept_ms))
  return {1, 'void', 0, 0}
end

local spent
spent, today = roll_window(budget_key, days_key, today, keep_days)
-- A hold that Redis lost (failover) is still owed in full: it is booked today, against a hold of nothing.
local amount = (not state or closed) and 0 or tonumber(hold[2])
local day = tonumber(hold[3] or whole(today))
local delta = cost - (closed and tonumber(hold[4] or '0') or 0)
-- An estimate that turned out too low was no overrun of the hold: only what exceeds the hold is. Only admission writes
-- a code: what was closed without one had no hold to exceed.
local overrun = hold[10] and math.max(0, cost - tonumber(hold[2])) or 0
local overrun_before = tonumber(hold[5] or '0')

if state == 'open' then
  redis.call('HINCRBY', budget_key, 'held_nano', whole(-amount))
end
if delta ~= 0 then
  if day > today - keep_days then redis.call('HINCRBY', days_key, whole(day), whole(delta)) end
  if day > today - WINDOW_DAYS then redis.call('HSET', budget_key, 'window_nano', whole(spent + delta)) end
  redis.call('HINCRBY', budget_key, 'booked_nano', whole(delta))
end
if overrun > overrun_before then
  if overrun_before == 0 then redis.call('HINCRBY', budget_key, 'overruns', 1) end
  redis.call('HINCRBY', budget_key, 'overrun_nano', whole(overrun - overrun_before))
end
local version = redis.call('HGET', budget_key, 'funding_version') or '0'
if version == (hold[8] or '0') then
  if ARGV[8] == 'refused' then
    redis.call('HSET', budget_key, 'funding_refused', '1', 'funding_trial_ms', whole(now_ms + tonumber(ARGV[9])))
  elseif ARGV[8] == 'works' then
    redis.call('HDEL', budget_key, 'funding_refused', 'funding_trial_ms')
  end
end

local model = ARGV[5] ~= '' and ARGV[5] or hold[6] or ''
local generation_id = ARGV[4] ~= '' and ARGV[4] or hold[9] or ''
redis.call('XADD', ledger_key, 'MINID', '~', whole(now_ms - kept_ms), '*',
  'request_id', ARGV[1], 'status', status, 'day', whole(day), 'delta_nano', whole(delta), 'cost_nano', whole(cost),
  'hold_nano', hold[2] or '0', 'overrun_nano', whole(overrun), 'generation_id', generation_id, 'model', model,
  'funding_version', hold[8] or '0', 'prompt_tokens', ARGV[6], 'completion_tokens', ARGV[7], 'admitted_ms', hold[7] or whole(now_ms),
  'settled_ms', whole(now_ms), 'ended_by', ARGV[11])
redis.call('HSET', hold_key, 'state', status, 'cost_nano', whole(cost), 'overrun_nano', whole(overrun),
  'generation_id', generation_id, 'model', model, 'prompt_tokens', ARGV[6], 'completion_tokens', ARGV[7],
  'settled_ms', whole(now_ms), 'ended_by', ARGV[11], 'day', whole(day), 'nano', hold[2] or '0',
  'admitted_ms', hold[7] or whole(now_ms))
redis.call('HDEL', hold_key, 'funding', 'estimate_nano', 'attempts', 'reconcile_ms')
redis.call('PEXPIRE', hold_key, whole(kept_ms))
return {1, status, cost, overrun}
