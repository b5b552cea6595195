--[[ admit: place a hold for one request, queue it, shorten its answer to fit, or refuse it.
KEYS[1] budget  hash    state, cap, held, spend of the window, sealed funding key, the request beyond its bound
KEYS[2] due     zset    hold id -> ms when it is overdue
KEYS[3] hold    string  this request's hold
KEYS[4] days    hash    UTC day -> nano-USD
KEYS[5] queue   zset    requests that wait for money of this budget
KEYS[6] alive   hash    leases of the processes that have waiters
The last three keys and the last two arguments may be left out, because few calls need them and each costs Redis time. If
they are needed the reply is then '', and nothing was changed: call again with them.
ARGV[1] request_id
ARGV[2] bound_nano     the most it can cost; '' = its price is unknown: hold all that is left
ARGV[3] estimate_nano  booked if the hold becomes an orphan and its true cost cannot be obtained
ARGV[4] model          without line ends
ARGV[5] asked          '' = first call. Else 'place terms'
                       place: as returned by an earlier call; empty = not in the queue yet; '-' = its waiting time has passed
                       terms: empty = not sent, since they are needed only if the bound does not fit (code -7). Else
                       'beyond total fixed per_token least usual bound_fixed bound_per_token', amounts in nano-USD:
                       beyond: '1' = its hold may be below its bound if the expected amount fits ('0': expected = bound)
                       total: the expected cost
                       fixed, bound_fixed: the part of each amount that does not depend on the output ceiling
                       per_token, bound_per_token: decimal, the price of one output token
                       least: the least useful output tokens; '-' = it must not be shortened; '' = no ceiling shortens it
                       usual: the largest ceiling of a shortened request
ARGV[6] channel        its process's wake channel; '' = it does not wait
Settings, constants that holds.py puts before this text, because arguments cost Redis time:
  OPEN_MOST, PER_MINUTE: the most requests of a budget that may be open, and that may begin in a minute
  LEASE_MS: the time until the hold is overdue, unless renewed
  KEEP_DAYS: how long day buckets are kept
  TRIAL_MS: the time between two trials of a refused funding key
  IS_FUNDED: whether a funding key is needed (live mode)
RETURNS 'uses_left overdue cap_nano held_nano admitted funding', a string because a table costs Redis more time
  uses_left: a grant's remaining requests after this one; -1 for a connection
  overdue: 1 if a hold of this budget is overdue
  cap_nano: -1 without a cap. held_nano: only if no hold was placed, else 0
  admitted: the lines of that name in include/hold.lua: its hold, code and max_tokens, and the spend before it
  code: 0 held at its bound, 1 shortened and held at its lower bound, 2 held at all that is left, 3 shortened and held at
  all that is left; -1 not connected, or an ended grant, -2 cap spent, -3 does not fit even alone, -4 would fit if no
  requests were in flight, -5 funding key refused, -6 this id was voided, or closed without a hold, -7 terms are needed,
  -8 it waits, -9 above the rate, -10 too many are open. With -7 and -8 the hold is the place in the queue, 0 without
  one; with -9 it is the ms to wait. funding: sealed bytes, which may contain blanks.
REPEAT the same request id returns the first hold and changes nothing; a refusal is not remembered. ]]
-- include: window
-- Rarely needed functions are included where they are needed, because each definition costs every run of the script.
local call, budget_key, due_key, hold_key = redis.call, KEYS[1], KEYS[2], KEYS[3]
-- include: now
local place, terms, channel = '', '', ARGV[6]
if ARGV[5] and ARGV[5] ~= '' then place, terms = ARGV[5]:match('^(%S*) (.*)$') end
-- A number's text is kept, and a text is converted once, because formatting takes half as long as a command and converting
-- a quarter. Times that only scripts read are passed to commands as numbers; amounts never are: Redis 7.2.0 to 7.2.4 and
-- Valkey 7.2.5 store 3e8 as "3e+8".
local state, cap_nano, held_nano, funding, version, refused, window_day, window_nano, waiting_ms, uses, rate_ms, used_ms = unpack(
  call('HMGET', budget_key, 'state', 'cap_nano', 'held_nano', 'funding', 'funding_version', 'funding_refused', 'window_day',
  'window_nano', 'waiting_ms', 'uses', 'rate_ms', 'used_ms'))
held_nano, funding = held_nano or '0', funding or ''
local cap, bound, held = cap_nano and cap_nano ~= '' and cap_nano + 0, ARGV[2] ~= '' and ARGV[2] + 0, held_nano + 0
local code, amount, max_tokens = 0, bound or 0, 0
local open, alone, left, queue, used, is_over = call('ZCARD', due_key)
-- include: pace
if uses then
  -- include: uses
  -- Uses in flight count as used, and requests do not wait for one to be given back.
  used = call('HGET', budget_key, 'used')
  is_over = has_ended(budget_key, uses, used, now_ms)
end
if state ~= 'active' or is_over then
  code, window_nano = -1, '0'
elseif slow and place == '' then
  -- A repeat after a lost reply already has its hold. The limits do not apply to requests that have waited.
  code, amount, window_nano = call('EXISTS', hold_key) == 1 and -4 or slow, paced, window_nano or '0'
else
  if not window_day or window_day + 0 < today then
    if not KEYS[4] then return '' end
    -- include: roll
    window_nano, window_day = roll_window(budget_key, KEYS[4], today, KEEP_DAYS, window_day, window_nano)
  end
  alone = cap and cap - window_nano
  left = cap and alone - held
  if cap and alone <= 0 then
    code = -2
  elseif IS_FUNDED and (funding == '' or refused and now_ms < tonumber(call('HGET', budget_key, 'funding_trial_ms') or '0')) then
    code = -5
  elseif cap and (waiting_ms or place ~= '' or not bound or bound > left) then
    if not KEYS[5] then return '' end
    -- include: queue
    -- include: decide
    queue = queue_of(budget_key, KEYS[5], KEYS[6])
    code, amount, max_tokens = decide(queue, channel, place, terms, left, alone, bound, now_ms, waiting_ms)
  end
end
-- A repeat after a lost reply may have a place that it does not know.
if code > -7 and (place ~= '' or queue and call('ZSCORE', KEYS[5], channel .. ' ' .. ARGV[1])) then
  -- include: queue
  queue_of(budget_key, KEYS[5], KEYS[6]).leave(channel .. ' ' .. ARGV[1], code >= 0 and left and left <= amount)
end
local now, is_new_second = whole(now_ms), not used_ms or used_ms:sub(1, -4) ~= time[1]
-- Look for overdue holds if the request was not admitted at its bound, else once a second.
local is_overdue = open > 0 and (code ~= 0 or is_new_second) and call('ZCOUNT', due_key, '-inf', now) > 0
local uses_left, verdict = used and whole(math.max(0, uses - used)) or '-1', code == 0 and '0' or whole(code)
local nano = amount == bound and ARGV[2] or whole(amount)
local admitted = code >= 0 and nano .. '\n' .. window_day .. '\n' .. now .. '\n' .. (version or '0')
  .. '\n' .. verdict .. '\n' .. (max_tokens == 0 and '0' or whole(max_tokens)) .. '\n' .. window_nano
if not admitted or not call('SET', hold_key, 'open\n\n\n' .. ARGV[4] .. '\n' .. admitted .. '\n' .. ARGV[3] .. '\n0\n\n' .. funding, 'NX') then
  -- include: hold
  -- include: unplaced
  return unplaced(code, amount, uses_left, is_overdue, cap and cap_nano, held_nano, window_nano)
end
if uses then uses_left = whole(math.max(0, uses - call('HINCRBY', budget_key, 'used', 1))) end
rate_ms, held_nano = slow and rate_ms or paced, held == 0 and nano or whole(held + amount)
if is_new_second then call('HSET', budget_key, 'held_nano', held_nano, 'rate_ms', rate_ms, 'used_ms', now)
else call('HSET', budget_key, 'held_nano', held_nano, 'rate_ms', rate_ms) end
if code >= 2 then call('HSET', budget_key, 'beyond', ARGV[1]) end
if refused then call('HSET', budget_key, 'funding_trial_ms', now_ms + TRIAL_MS) end
call('ZADD', due_key, now_ms + LEASE_MS, ARGV[1])
return uses_left .. (is_overdue and ' 1 ' or ' 0 ') .. (cap and cap_nano or '-1') .. ' 0 ' .. admitted .. ' ' .. funding
