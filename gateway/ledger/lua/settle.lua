--[[ settle: move a hold into spend at its cost, or void it; write the ledger. Once for each hold.
KEYS[1] budget  hash
KEYS[2] days    hash
KEYS[3] due     zset
KEYS[4] hold    string
KEYS[5] ledger  stream
KEYS[6] queue   zset    who waits for money of this budget
ARGV[1] request_id
ARGV[2] status           'settled' (a cost that OpenRouter stated), 'estimated', 'void'
ARGV[3] cost_nano
ARGV[4] generation_id
ARGV[5] model            the model that answered, without a line end; '' = the one that was asked for
ARGV[6] tokens           of prompt and completion, a blank between; none where it is not known
ARGV[7] funding_verdict  'works', 'refused' or '' (nothing was learnt)
ARGV[8] keep_ms          how long the ledger is kept
ARGV[9] ended_by         why the request ended: complete, client, upstream, revoked, refused, crash, store
ARGV[10] trial_ms        how long a refused funding key rests before its first trial
RETURNS 'code status cost_nano overrun_nano'  code 1 booked, 0 it was closed before: the first answer again
REPEAT changes nothing. One exception: a hold closed at an estimate, or voided by the sweeper, takes a cost that
  OpenRouter states later; the ledger then gets a second entry with the difference. ]]
-- include: window
-- include: hold
-- include: uses
-- include: overrun
-- include: queue
local budget_key, days_key, hold_key = KEYS[1], KEYS[2], KEYS[4]
local status, cost_nano = ARGV[2], ARGV[2] == 'void' and '0' or ARGV[3]
local state, generation_id, _, model, admitted, nano, day, admitted_ms, version, code, cost_before, overrun_before
local hold = redis.call('GET', hold_key)
if hold then
  state, generation_id, _, model, admitted, nano, day, admitted_ms, version, code, cost_before, overrun_before = hold:match(HOLD)
  assert(state, 'a hold that cannot be read')
end
-- Also when the hold itself is gone: a name left here would be claimed for ever.
redis.call('ZREM', KEYS[3], ARGV[1])
if state == 'settled' or hold and state ~= 'open' and status ~= 'settled' then
  return '0 ' .. state .. ' ' .. cost_before .. ' ' .. overrun_before
end
if not hold and status == 'void' then
  -- The hold may still be on its way (an admission that outlived its deadline): leave word that it is void.
  redis.call('SET', hold_key, 'void\n\n' .. ARGV[9] .. '\n\n0\n\n\n0\n\n0\n0\n0\n0\n \n' .. whole((clock())), 'PX', ARGV[8])
  return '1 void 0 0'
end

local window_day, newest, refused, uses, waiting_ms = unpack(redis.call('HMGET', budget_key, 'window_day', 'funding_version',
  'funding_refused', 'uses', 'waiting_ms'))
local keep_days, is_lost = ARGV[8] / DAY_MS, not hold or admitted_ms == ''
if is_lost or not window_day then
  -- Whatever was admitted has a window of its day, or of a later one: only without an admission the day is asked for.
  local now_ms, today = clock()
  _, window_day = roll_window(budget_key, days_key, today, keep_days, window_day)
  if is_lost then
    -- A hold that Redis lost (failover) is still owed in full: it is booked today, against a hold of nothing.
    nano, day, version, code = '0', window_day, '0', ''
    admitted = '0\n' .. day .. '\n' .. whole(now_ms) .. '\n0\n\n0\n0'
  end
end
if state == 'open' and nano ~= '0' then
  redis.call('HINCRBY', budget_key, 'held_nano', '-' .. nano)
end
if state == 'open' or not hold then cost_before, overrun_before = '0', '0' end
local cost, delta_nano = tonumber(cost_nano), cost_nano
if cost_before ~= '0' then delta_nano = whole(cost - tonumber(cost_before)) end
local is_first_of_day = true
if delta_nano ~= '0' then
  if day == window_day or day + 0 > window_day - keep_days then
    is_first_of_day = redis.call('HINCRBY', days_key, day, delta_nano) == tonumber(delta_nano)
  end
  if day == window_day or day + 0 > window_day - WINDOW_DAYS then redis.call('HINCRBY', budget_key, 'window_nano', delta_nano) end
  redis.call('HINCRBY', budget_key, 'booked_nano', delta_nano)
end
local overrun_nano = count_overrun(budget_key, code, cost, nano, overrun_before)
if ARGV[7] == 'refused' and version == (newest or '0') then
  redis.call('HSET', budget_key, 'funding_refused', '1', 'funding_trial_ms', whole(clock() + tonumber(ARGV[10])))
elseif refused and ARGV[7] == 'works' and version == newest then
  redis.call('HDEL', budget_key, 'funding_refused', 'funding_trial_ms')
end

local closed = status .. '\n' .. (ARGV[4] ~= '' and ARGV[4] or generation_id or '') .. '\n' .. ARGV[9] .. '\n'
  .. (ARGV[5] ~= '' and ARGV[5] or model or '') .. '\n' .. admitted .. '\n' .. cost_nano .. '\n' .. overrun_nano .. '\n'
  .. ARGV[6]
-- The stream's id is the time of the settlement. What is too old is trimmed with the first spend of a day, and where
-- nothing is booked: asking for it costs as much as a command.
local entry = is_first_of_day
  and redis.call('XADD', KEYS[5], 'MINID', '~', whole(clock() - tonumber(ARGV[8])), '*',
    'request_id', ARGV[1], 'delta_nano', delta_nano, 'closed', closed)
  or redis.call('XADD', KEYS[5], '*', 'request_id', ARGV[1], 'delta_nano', delta_nano, 'closed', closed)
redis.call('SET', hold_key, closed .. '\n' .. entry:match('^%d+'), 'PX', ARGV[8])
if uses then settle_use(state, status, ARGV[8], budget_key, KEYS[3], days_key, KEYS[5]) end
-- Its money may be what the first waiter needs.
if waiting_ms then queue_of(budget_key, KEYS[6]).tell_first() end
return '1 ' .. status .. ' ' .. cost_nano .. ' ' .. overrun_nano
