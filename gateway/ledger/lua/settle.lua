--[[ settle: close a hold at its cost, or void it, and write the ledger's entry. Once for each hold.
KEYS[1] budget  hash
KEYS[2] days    hash
KEYS[3] due     zset
KEYS[4] ledger  stream
KEYS[5] queue   zset    requests that wait for money of this budget
KEYS[6] events  stream  events for webhooks
KEYS[7] hold    string
ARGV[1] request_id
ARGV[2] keep_ms          how long the ledger is kept
ARGV[3] ending           four lines: status, generation_id, ended_by, model; one argument because each costs Redis time
                         status: 'settled' (a cost that OpenRouter stated), 'estimated', 'void'
                         ended_by: why the request ended: complete, client, upstream, revoked, refused, crash, store
                         model: the model that answered; empty = the requested one
ARGV[4] cost_nano
ARGV[5] tokens           'prompt completion'; each empty if unknown
ARGV[6] funding_verdict  'works', '' (unknown), or 'refused trial_ms': the time until the key's first trial
ARGV[7] admitted         the field of that name in admission's reply, if generation_id and model are known and it is no
                         void; else ''
RETURNS 'code overrun_nano'  code: 1 booked, 2 booked and an event was written; or '0 status cost_nano overrun_nano':
  already closed, the first result again
REPEAT changes nothing. One exception: a hold closed at an estimate or voided by the sweeper accepts a cost that
  OpenRouter states later; the ledger then gets a second entry with the difference. ]]
-- include: window
local call, budget_key, days_key, hold_key, keep_ms, ending, cost_nano = redis.call, KEYS[1], KEYS[2], KEYS[7], ARGV[2], ARGV[3], ARGV[4]
local hold, state, admitted, nano, day, admitted_ms, version, code, cost_before, overrun_before
local overrun_nano, is_first_of_day, booked_code = '0', true, '1 '
if ARGV[7] ~= '' and call('ZREM', KEYS[3], ARGV[1]) == 1 then
  -- A hold in `due` is open, and all its fields are known from the arguments, so it is not read.
  hold, state, admitted = true, 'open', ARGV[7]
  nano, day = admitted:match('^(%d+)\n(%d+)')
else
  -- include: stored
end
local window_day, refused, uses, waiting_ms, held_nano, window_nano, booked_nano, next_threshold_nano = unpack(call('HMGET', budget_key,
  'window_day', 'funding_refused', 'uses', 'waiting_ms', 'held_nano', 'window_nano', 'booked_nano', 'next_threshold_nano'))
local is_lost = not hold or admitted_ms == ''
if is_lost or not window_day then
  -- include: roll
  -- An admission has rolled the window to its day or a later one; only without one must the window be rolled here.
  -- include: now
  window_nano, window_day, next_threshold_nano = roll_window(budget_key, days_key, today, keep_ms / DAY_MS, window_day, window_nano)
  if is_lost then
    -- A failover lost the hold, but its cost is owed: book it today, against a hold of 0.
    nano, day, version, code, admitted = '0', window_day, '0', '', '0\n' .. window_day .. '\n' .. whole(now_ms) .. '\n0\n\n0\n0'
  end
end
-- Amounts are converted once, because each conversion takes as long as reading a field.
local cost, held = cost_nano + 0, nano + 0
local delta, delta_nano, freed = cost, cost_nano, state == 'open' and held > 0
if hold and state ~= 'open' then
  delta = cost - cost_before
  delta_nano = whole(delta)
end
if delta ~= 0 then
  local is_today = day == window_day
  if is_today or day + 0 > window_day - keep_ms / DAY_MS then
    is_first_of_day = call('HINCRBY', days_key, day, delta_nano) == delta
  end
  local is_in_window = is_today or day + 0 > window_day - WINDOW_DAYS
  held_nano = held_nano or '0'
  if freed then held_nano = held_nano == nano and '0' or whole(held_nano - held) end
  local window = (window_nano or 0) + (is_in_window and delta or 0)
  local booked = (booked_nano or 0) + delta  -- A total of all time: it may pass 9 million dollars, above which doubles are not exact.
  if booked < 2^53 then call('HSET', budget_key, 'held_nano', held_nano, 'window_nano', whole(window), 'booked_nano', whole(booked))
  else call('HSET', budget_key, 'held_nano', held_nano, 'window_nano', whole(window)) call('HINCRBY', budget_key, 'booked_nano', delta_nano) end
  if is_in_window and window >= (next_threshold_nano or 0) + 0 then
    -- include: threshold
    if write_thresholds(budget_key, KEYS[6], window, window_day) then booked_code = '2 ' end
  end
elseif freed then
  call('HINCRBY', budget_key, 'held_nano', '-' .. nano)
end
if cost > held and code ~= '' then
  -- include: overrun
  overrun_nano = count_overrun(budget_key, cost - held, state ~= 'open' and overrun_before or 0)
end
if refused or ARGV[6] ~= '' and ARGV[6] ~= 'works' then
  -- include: verdict
  version = version or admitted:match('^%d+\n%d+\n%d+\n(%d+)')
  if note_verdict(budget_key, version, ARGV[6], KEYS[6]) then booked_code = '2 ' end
end
local closed = ending .. '\n' .. admitted .. '\n' .. cost_nano .. '\n' .. overrun_nano .. '\n' .. ARGV[5]
-- The entry's id is the time of the settlement. Old entries are trimmed with the first spend of a day, or without a cost.
if is_first_of_day then
  -- include: now
  call('XTRIM', KEYS[4], 'MINID', '~', whole(now_ms - keep_ms))
end
local settled_ms = call('XADD', KEYS[4], '*', 'request_id', ARGV[1], 'delta_nano', delta_nano, 'closed', closed):match('^%d+')
call('SET', hold_key, closed .. '\n' .. settled_ms, 'PX', keep_ms)
if uses then
  -- include: grant_end
  if settle_use(state, ending:match('^%l+'), keep_ms, budget_key, KEYS[3], days_key, KEYS[4], KEYS[6]) then booked_code = '2 ' end
end
if waiting_ms then  -- The released amount may be what the first waiting request needs.
  -- include: queue
  queue_of(budget_key, KEYS[5]).tell_first()
end
return booked_code .. overrun_nano
