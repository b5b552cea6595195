--[[ settle: close a hold at its cost, or void it, and write the ledger's entry. Once for each hold.
KEYS[1] budget  hash
KEYS[2] days    hash
KEYS[3] due     zset
KEYS[4] ledger  stream
KEYS[5] queue   zset    requests that wait for money of this budget
KEYS[6] events  stream  events for webhooks
KEYS[7] hold    string
ARGV[1] request_id
ARGV[2] ending           four lines: status, generation_id, ended_by, model; one argument because each costs Redis time
                         status: 'settled' (a cost that OpenRouter stated), 'estimated', 'void'
                         ended_by: why the request ended: complete, client, upstream, revoked, refused, crash, store
                         model: the model that answered; empty = the requested one
ARGV[3] cost_nano
ARGV[4] tokens           'prompt completion'; each empty if unknown
ARGV[5] funding_verdict  'works', '' (unknown), or 'refused trial_ms': the time until the key's first trial
ARGV[6] keep_ms          how long the ledger is kept
ARGV[7] admitted         the field of that name in admission's reply, if generation_id and model are known; else ''
RETURNS 'code status cost_nano overrun_nano'  code: 1 booked, 2 booked and an event was written,
  0 already closed: the first result again
REPEAT changes nothing. One exception: a hold closed at an estimate or voided by the sweeper accepts a cost that
  OpenRouter states later; the ledger then gets a second entry with the difference. ]]
-- include: window
local call, budget_key, days_key, hold_key, ending, status = redis.call, KEYS[1], KEYS[2], KEYS[7], ARGV[2], ARGV[2]:match('^%l+')
local hold, state, old_id, _, asked, admitted, nano, day, admitted_ms, version, code, cost_before, overrun_before
local cost_nano, overrun_nano, is_first_of_day, booked_code = status == 'void' and '0' or ARGV[3], '0', true, '1 '
if ARGV[7] ~= '' and call('ZREM', KEYS[3], ARGV[1]) == 1 then
  -- A hold in `due` is open, and all its fields are known from the arguments, so it is not read.
  hold, state, admitted = true, 'open', ARGV[7]
  nano, day, admitted_ms, version, code = admitted:match('^(%d+)\n(%d+)\n(%d+)\n(%d+)\n(%d+)')
else
  -- include: hold
  hold = call('GET', hold_key)
  state, old_id, _, asked, admitted, nano, day, admitted_ms, version, code, cost_before, overrun_before = (hold or ''):match(HOLD)
  assert(state or not hold, 'a hold that cannot be read')
  call('ZREM', KEYS[3], ARGV[1])  -- Also without a hold: an id that stayed in `due` would be claimed for ever.
end
if state == 'settled' or hold and state ~= 'open' and status ~= 'settled' then return '0 ' .. state .. ' ' .. cost_before .. ' ' .. overrun_before end
if not hold and status == 'void' then
  -- The admission may still be in flight (after its deadline): store a void, so that it cannot place a hold.
  call('SET', hold_key, ending:match('^void\n[^\n]*\n[^\n]*\n') .. '\n0\n\n\n0\n\n0\n0\n0\n0\n \n' .. whole((clock())), 'PX', ARGV[6])
  return '1 void 0 0'
end
local window_day, refused, uses, waiting_ms, held_nano, window_nano, booked_nano, next_threshold_nano = unpack(call('HMGET', budget_key,
  'window_day', 'funding_refused', 'uses', 'waiting_ms', 'held_nano', 'window_nano', 'booked_nano', 'next_threshold_nano'))
local keep_days, is_lost = ARGV[6] / DAY_MS, not hold or admitted_ms == ''
if is_lost or not window_day then
  -- include: roll
  -- An admission has rolled the window to its day or a later one; only without one must the window be rolled here.
  local now_ms, today = clock()
  window_nano, window_day, next_threshold_nano = roll_window(budget_key, days_key, today, keep_days, window_day, window_nano)
  if is_lost then
    -- A failover lost the hold, but its cost is owed: book it today, against a hold of 0.
    nano, day, version, code, admitted = '0', window_day, '0', '', '0\n' .. window_day .. '\n' .. whole(now_ms) .. '\n0\n\n0\n0'
  end
end
if state == 'open' or not hold then cost_before, overrun_before = '0', '0' end
local delta_nano, freed = cost_before == '0' and cost_nano or whole(cost_nano - cost_before), state == 'open' and nano ~= '0'
if delta_nano ~= '0' then
  if day == window_day or day + 0 > window_day - keep_days then
    is_first_of_day = call('HINCRBY', days_key, day, delta_nano) == delta_nano + 0
  end
  local is_in_window = day == window_day or day + 0 > window_day - WINDOW_DAYS
  local held = whole((held_nano or 0) - (freed and nano or 0))
  local window = (window_nano or 0) + (is_in_window and delta_nano or 0)
  local booked = (booked_nano or 0) + delta_nano  -- A total of all time: it may pass 9 million dollars, above which doubles are not exact.
  if booked < 2^53 then call('HSET', budget_key, 'held_nano', held, 'window_nano', whole(window), 'booked_nano', whole(booked))
  else call('HSET', budget_key, 'held_nano', held, 'window_nano', whole(window)) call('HINCRBY', budget_key, 'booked_nano', delta_nano) end
  if is_in_window and window >= (next_threshold_nano or 0) + 0 then
    -- include: threshold
    if write_thresholds(budget_key, KEYS[6], window, window_day) then booked_code = '2 ' end
  end
elseif freed then
  call('HINCRBY', budget_key, 'held_nano', '-' .. nano)
end
if code ~= '' and cost_nano + 0 > nano + 0 then
  -- include: overrun
  overrun_nano = count_overrun(budget_key, cost_nano - nano, overrun_before)
end
if refused or ARGV[5] ~= '' and ARGV[5] ~= 'works' then
  -- include: verdict
  if note_verdict(budget_key, version, ARGV[5], KEYS[6]) then booked_code = '2 ' end
end
if old_id then
  local new_id, ended_by, model = ending:match('\n(.*)\n(.*)\n(.*)$')
  ending = status .. '\n' .. (new_id ~= '' and new_id or old_id) .. '\n' .. ended_by .. '\n' .. (model ~= '' and model or asked)
end
local closed = ending .. '\n' .. admitted .. '\n' .. cost_nano .. '\n' .. overrun_nano .. '\n' .. ARGV[4]
-- The entry's id is the time of the settlement. Old entries are trimmed with the first spend of a day, or without a cost.
if is_first_of_day then call('XTRIM', KEYS[4], 'MINID', '~', whole(clock() - ARGV[6])) end
local settled_ms = call('XADD', KEYS[4], '*', 'request_id', ARGV[1], 'delta_nano', delta_nano, 'closed', closed):match('^%d+')
call('SET', hold_key, closed .. '\n' .. settled_ms, 'PXAT', whole(settled_ms + ARGV[6]))
if uses then
  -- include: grant_end
  if settle_use(state, status, ARGV[6], budget_key, KEYS[3], days_key, KEYS[4], KEYS[6]) then booked_code = '2 ' end
end
if waiting_ms then  -- The released amount may be what the first waiting request needs.
  -- include: queue
  queue_of(budget_key, KEYS[5]).tell_first()
end
return booked_code .. status .. ' ' .. cost_nano .. ' ' .. overrun_nano
