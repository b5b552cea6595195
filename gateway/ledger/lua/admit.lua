--[[ admit: place a hold for one request, shorten it to fit, or refuse it.
KEYS[1] budget  hash    state, cap, held, spend of the window, sealed funding key
KEYS[2] days    hash    UTC day -> nano-USD
KEYS[3] due     zset    hold id -> ms when it is overdue
KEYS[4] hold    string  this request's hold
ARGV[1] request_id
ARGV[2] worst_nano     '' = the price is not known: hold all that is left
ARGV[3] bound          what a token ceiling changes: 'fixed_nano per_token_nano min_tokens usual_tokens'.
                       fixed_nano: the part of the worst case that it does not lower; per_token_nano: decimal, one more
                       output token; min_tokens: the smallest output worth sending, '' = no ceiling shortens it: hold
                       all that is left; usual_tokens: the largest ceiling to shorten it to
ARGV[4] estimate_nano  what an orphan of this request is settled at when its true cost cannot be had
ARGV[5] lease_ms       how long the hold lives without being renewed
ARGV[6] keep_days      how long day buckets are kept
ARGV[7] model          without a line end
ARGV[8] funded         '1' = a funding key is needed (live mode)
ARGV[9] trial_ms       how long a refused funding key rests between two trials
RETURNS 'uses_left code hold_nano max_tokens spent_nano held_nano cap_nano overdue due_ms funding': a table costs Redis more
  uses_left: how many requests a grant carries after this one; -1 where they are not counted
  code: 0 held, 1 held and shortened to max_tokens, -1 not connected, or a grant that has ended,
  -2 cap spent, -3 what is left cannot carry it,
  -4 only requests in flight hold the rest, -5 funding refused, -6 this id was voided, or closed without a hold
  cap_nano is -1 without a cap. overdue is 1 when a hold here waits for the sweeper. due_ms is when this one is
  overdue, 0 without an open hold. funding is sealed bytes: there may be blanks in it.
REPEAT the same request id returns the first answer and changes nothing. ]]
-- include: window
-- include: hold
-- include: uses
local budget_key, due_key, hold_key = KEYS[1], KEYS[3], KEYS[4]
local now_ms, today = clock()
local now = whole(now_ms)
-- Numbers are passed on as the text they came as where that may be: to print one costs half as much as a command.
local state, cap_nano, held_nano, funding, version, refused, window_day, window_nano, uses = unpack(redis.call('HMGET', budget_key,
  'state', 'cap_nano', 'held_nano', 'funding', 'funding_version', 'funding_refused', 'window_day', 'window_nano', 'uses'))
local cap, held, worst = tonumber(cap_nano or ''), tonumber(held_nano or '0'), tonumber(ARGV[2])
local code, amount, max_tokens = 0, worst or 0, 0
funding = funding or ''

-- Uses in flight count as taken, and nobody waits for one to come back.
local used = uses and redis.call('HGET', budget_key, 'used')
if state ~= 'active' or uses and has_ended(budget_key, uses, used, now_ms) then
  code, window_nano = -1, '0'
else
  window_nano, window_day = roll_window(budget_key, KEYS[2], today, tonumber(ARGV[6]), window_day, window_nano)
  local alone = cap and cap - window_nano
  local left = cap and alone - held
  if cap and alone <= 0 then
    code = -2
  elseif ARGV[8] == '1' and (funding == '' or refused and now_ms < tonumber(redis.call('HGET', budget_key, 'funding_trial_ms') or '0')) then
    code = -5
  elseif cap and not worst then
    code, amount = left > 0 and 0 or -4, left
  elseif cap and worst > left then
    local fixed, per_token, least, usual = ARGV[3]:match('^(%S+) (%S+) (%S*) (%S+)$')
    fixed, per_token, least = tonumber(fixed), tonumber(per_token), tonumber(least)
    -- The factor keeps the rounding of a double from buying one token too many.
    local function affordable(nano)
      if per_token <= 0 then return -1 end
      return math.floor((nano - fixed) * (1 - 1e-12) / per_token)
    end
    if not least then
      amount = left
      if left < fixed or left <= 0 then code = fixed <= alone and -4 or -3 end
    else
      max_tokens = math.min(affordable(left), tonumber(usual))
      amount = math.min(left, fixed + math.ceil(max_tokens * per_token))
      code = 1
      if max_tokens < least then code = (worst <= alone or affordable(alone) >= least) and -4 or -3 end
    end
  end
end

local function answer(...)
  return (uses and whole(uses - used) or '-1') .. ' ' .. table.concat({...}, ' ')
end

local overdue = redis.call('ZCOUNT', due_key, '-inf', now) > 0 and '1' or '0'
local amount_nano = amount == worst and ARGV[2] or whole(amount)
local cap_told = cap and cap_nano or '-1'
local tokens, verdict = max_tokens == 0 and '0' or whole(max_tokens), code == 0 and '0' or whole(code)
local is_placed = code >= 0 and redis.call('SET', hold_key, 'open\n\n\n' .. ARGV[7] .. '\n' .. amount_nano .. '\n' .. window_day
  .. '\n' .. now .. '\n' .. (version or '0') .. '\n' .. verdict .. '\n' .. tokens .. '\n' .. window_nano .. '\n' .. ARGV[4]
  .. '\n0\n\n' .. funding, 'NX')
if not is_placed then
  local earlier = redis.call('GET', hold_key)
  if not earlier then return answer(verdict, 0, 0, window_nano, held_nano or 0, cap_told, overdue, 0, '') end
  local first, _, _, _, admitted, nano, _, _, _, said, _, _, _, sealed = earlier:match(HOLD)
  if first == 'void' or said == '' then return answer(-6, 0, 0, 0, held_nano or 0, cap_told, 0, 0, '') end
  local told_tokens, told_spent = admitted:match('([^\n]*)\n([^\n]*)$')
  local told_due = whole(math.floor(redis.call('ZSCORE', due_key, ARGV[1]) or 0))
  return answer(said, nano, told_tokens, told_spent, held_nano or 0, cap_told, 0, told_due, first == 'open' and sealed or '')
end
held_nano = whole(held + amount)
if uses then used = redis.call('HINCRBY', budget_key, 'used', 1) end
redis.call('HSET', budget_key, 'held_nano', held_nano, 'used_ms', now)
if refused then redis.call('HSET', budget_key, 'funding_trial_ms', whole(now_ms + tonumber(ARGV[9]))) end
local due_ms = whole(now_ms + tonumber(ARGV[5]))
redis.call('ZADD', due_key, due_ms, ARGV[1])
return (uses and whole(uses - used) or '-1') .. ' ' .. verdict .. ' ' .. amount_nano .. ' ' .. tokens .. ' ' .. window_nano
  .. ' ' .. held_nano .. ' ' .. cap_told .. ' ' .. overdue
  .. ' ' .. due_ms .. ' ' .. funding
