--[[ admit: place a hold for one request, shorten it to fit, or refuse it.
KEYS[1] budget  hash    state, cap, held, spend of the window, sealed funding key
KEYS[2] days    hash    UTC day -> nano-USD
KEYS[3] due     zset    hold id -> ms when it is overdue
KEYS[4] hold    hash    this request's hold
ARGV[1] request_id
ARGV[2] worst_nano        '' = the price is not known: hold all that is left
ARGV[3] fixed_nano        the part of the worst case that no token ceiling lowers
ARGV[4] per_token_nano    decimal, one more output token
ARGV[5] min_tokens        the smallest output worth sending; '' = no ceiling shortens it: hold all that is left
ARGV[6] usual_tokens      the largest ceiling to shorten it to
ARGV[7] estimate_nano     what an orphan of this request is settled at when its true cost cannot be had
ARGV[8] lease_ms          how long the hold lives without being renewed
ARGV[9] trial_ms          how long a refused funding key rests between two trials
ARGV[10] keep_days        how long day buckets are kept
ARGV[11] model
ARGV[12] funded           '1' = a funding key is needed (live mode)
RETURNS {code, hold_nano, max_tokens, spent_nano, held_nano, cap_nano, funding, overdue}
  0 held, 1 held and shortened to max_tokens, -1 not connected, -2 cap spent, -3 what is left cannot carry it,
  -4 only requests in flight hold the rest, -5 funding refused, -6 this id was voided, or closed without a hold
  cap_nano is -1 without a cap. overdue is 1 when a hold here waits for the sweeper.
REPEAT the same request id returns the first answer and changes nothing. ]]
-- include: window
local budget_key, days_key, due_key, hold_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now_ms, today = clock()
local fields = redis.call('HMGET', budget_key,
  'state', 'cap_nano', 'held_nano', 'funding', 'funding_refused', 'funding_trial_ms', 'funding_version')
local funding = fields[4] or ''
local cap = tonumber(fields[2] or '')
local held = tonumber(fields[3] or '0')

local earlier = redis.call('HMGET', hold_key, 'state', 'code', 'nano', 'max_tokens', 'spent_nano')
if earlier[1] == 'void' or earlier[1] and not earlier[2] then
  return {-6, 0, 0, 0, held, cap or -1, '', 0}
elseif earlier[1] then
  return {tonumber(earlier[2]), tonumber(earlier[3]), tonumber(earlier[4]), tonumber(earlier[5]),
    held, cap or -1, redis.call('HGET', hold_key, 'funding') or '', 0}
end

local overdue = 0
local first = redis.call('ZRANGE', due_key, 0, 0, 'WITHSCORES')
if first[2] and tonumber(first[2]) <= now_ms then overdue = 1 end

if fields[1] ~= 'active' then
  return {-1, 0, 0, 0, held, cap or -1, '', overdue}
end
local spent
spent, today = roll_window(budget_key, days_key, today, tonumber(ARGV[10]))
if cap and spent >= cap then
  return {-2, 0, 0, spent, held, cap, '', overdue}
end
if ARGV[12] == '1' and (funding == '' or fields[5] == '1' and now_ms < tonumber(fields[6] or '0')) then
  return {-5, 0, 0, spent, held, cap or -1, '', overdue}
end

local worst, fixed, per_token = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local code, max_tokens, amount = 0, 0, worst or 0
if cap then
  local left = cap - spent - held
  if not worst then
    amount = left
    if left <= 0 then
      return {-4, 0, 0, spent, held, cap, '', overdue}
    end
  elseif worst > left and ARGV[5] == '' then
    amount = left
    if left < fixed or left <= 0 then
      return {fixed <= cap - spent and -4 or -3, 0, 0, spent, held, cap, '', overdue}
    end
  elseif worst > left then
    -- The factor keeps the rounding of a double from buying one token too many.
    local function affordable(nano)
      if per_token <= 0 then return -1 end
      return math.floor((nano - fixed) * (1 - 1e-12) / per_token)
    end
    max_tokens = math.min(affordable(left), tonumber(ARGV[6]))
    if max_tokens < tonumber(ARGV[5]) then
      local alone = cap - spent
      if worst <= alone or affordable(alone) >= tonumber(ARGV[5]) then
        return {-4, 0, 0, spent, held, cap, '', overdue}
      end
      return {-3, 0, 0, spent, held, cap, '', overdue}
    end
    code = 1
    amount = math.min(left, fixed + math.ceil(max_tokens * per_token))
  end
end

if fields[5] == '1' then
  redis.call('HSET', budget_key, 'funding_trial_ms', whole(now_ms + tonumber(ARGV[9])))
end
redis.call('HSET', budget_key, 'held_nano', whole(held + amount), 'used_ms', whole(now_ms))
redis.call('HSET', hold_key, 'state', 'open', 'code', code, 'nano', whole(amount), 'max_tokens', whole(max_tokens),
  'spent_nano', whole(spent), 'day', whole(today), 'admitted_ms', whole(now_ms), 'model', ARGV[11],
  'estimate_nano', ARGV[7], 'funding', funding, 'funding_version', fields[7] or '0')
redis.call('ZADD', due_key, whole(now_ms + tonumber(ARGV[8])), ARGV[1])
return {code, amount, max_tokens, spent, held + amount, cap or -1, funding, overdue}
