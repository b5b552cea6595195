--[[ attach: write down what is known of an open hold, and how long it may live. Never moves money.
KEYS[1] hold   string
KEYS[2] due    zset
KEYS[3] budget hash
KEYS[4] events stream  events for webhooks; given where ARGV[7] is
ARGV[1] generation_id   '' = keep
ARGV[2] request_id
ARGV[3] estimate_nano   '' = keep what admission wrote
ARGV[4] due_ms          '' = keep; else ms from now when the hold is overdue
ARGV[5] attempt         '1' = one more look-up of the true cost was made
ARGV[6] ended_by        '' = keep
ARGV[7] funding         'refused trial_ms' = OpenRouter refused the funding key inside its answer, and it rests so long
                        before its first trial; '' = nothing was learnt
An id alone is given as KEYS[1] and ARGV[1], with nothing after them.
RETURNS 'code active due_ms'  code 1 written, 0 the hold is closed or not known; active is 1 while the budget is
  active (with an id alone that is not looked at, and 1); due_ms is when the hold is overdue now, 0 where that was not
  asked to change
REPEAT changes nothing, but for the count of attempts, which handing over (ended_by) begins anew. ]]
local hold_key, due_key, hold = KEYS[1], KEYS[2], redis.call('GET', KEYS[1])
if not ARGV[2] and hold and hold:sub(1, 6) == 'open\n\n' then
  -- What every stream sends is written into its empty line, without reading the other lines.
  redis.call('SET', hold_key, 'open\n' .. ARGV[1] .. hold:sub(6))
  return '1 1 0'
end
local active = (not ARGV[2] or redis.call('HGET', KEYS[3], 'state') == 'active') and '1 ' or '0 '
if not hold or hold:sub(1, 5) ~= 'open\n' then return '0 ' .. active .. '0' end
-- include: window
-- include: hold
local function given(word)
  return word and word ~= '' and word
end

local _, generation_id, ended_by, model, admitted, _, _, _, version, _, estimate, attempts, reconcile_ms, funding = hold:match(HOLD)
generation_id, estimate = given(ARGV[1]) or generation_id, given(ARGV[3]) or estimate
if given(ARGV[6]) then
  -- What was asked while it ran (a sweeper took it for an orphan) counts no more: its record is made only now.
  ended_by, attempts, reconcile_ms = ARGV[6], '0', ''
end
if ARGV[5] == '1' then
  attempts = whole(attempts + 1)
  if reconcile_ms == '' then reconcile_ms = whole((clock())) end
end
local known = 'open\n' .. generation_id .. '\n' .. ended_by .. '\n' .. model .. '\n' .. admitted .. '\n'
  .. estimate .. '\n' .. attempts .. '\n' .. reconcile_ms .. '\n' .. funding
if known ~= hold then redis.call('SET', hold_key, known) end
if given(ARGV[7]) then
  -- include: verdict
  note_verdict(KEYS[3], version, ARGV[7], KEYS[4])
end
if not given(ARGV[4]) then return '1 ' .. active .. '0' end
local due_ms = clock() + tonumber(ARGV[4])
-- The fraction tells whether the request was sent.
local mark = (redis.call('ZSCORE', due_key, ARGV[2]) or 0) % 1
redis.call('ZADD', due_key, 'XX', string.format('%.1f', due_ms + mark), ARGV[2])
return '1 ' .. active .. whole(due_ms)
