--[[ attach: update an open hold's record and its due time. Never moves money.
KEYS[1] hold   string
KEYS[2] due    zset
KEYS[3] budget hash
KEYS[4] events stream  events for webhooks; given where ARGV[7] is
ARGV[1] generation_id   '' = keep
ARGV[2] request_id
ARGV[3] estimate_nano   '' = keep admission's
ARGV[4] due_ms          '' = keep; else ms from now until the hold is overdue
ARGV[5] attempt         '1' = count one more look-up of the true cost
ARGV[6] ended_by        '' = keep
ARGV[7] funding         'refused trial_ms' = OpenRouter refused the funding key inside its answer; the time until its
                        first trial; '' = unknown
To store an id only, KEYS[1] and ARGV[1] are given alone.
RETURNS 'code active due_ms'  code: 1 written, 0 the hold is closed or unknown; active: 1 if the budget is active (not
  checked, and 1, with an id only); due_ms: when the hold becomes overdue now, 0 if ARGV[4] is ''
REPEAT changes nothing, but for the count of attempts, which handing over (ended_by) begins anew. ]]
local hold_key, due_key, hold = KEYS[1], KEYS[2], redis.call('GET', KEYS[1])
if not ARGV[2] and hold and hold:sub(1, 6) == 'open\n\n' then
  -- The most frequent call, once for each stream: put the id into its empty line without parsing the others.
  redis.call('SET', hold_key, 'open\n' .. ARGV[1] .. hold:sub(6))
  return '1 1 0'
end
local active = (not ARGV[2] or redis.call('HGET', KEYS[3], 'state') == 'active') and '1 ' or '0 '
if not hold or hold:sub(1, 5) ~= 'open\n' then return '0 ' .. active .. '0' end
-- include: window
-- include: hold
-- include: now
local function given(word)
  return word and word ~= '' and word
end

local _, generation_id, ended_by, model, admitted, _, _, _, version, _, estimate, attempts, reconcile_ms, funding = hold:match(HOLD)
generation_id, estimate = given(ARGV[1]) or generation_id, given(ARGV[3]) or estimate
if given(ARGV[6]) then
  -- Reset look-ups made while it ran (by a sweeper that took it for an orphan): OpenRouter creates its record only now.
  ended_by, attempts, reconcile_ms = ARGV[6], '0', ''
end
if ARGV[5] == '1' then
  attempts = whole(attempts + 1)
  if reconcile_ms == '' then reconcile_ms = whole(now_ms) end
end
local known = 'open\n' .. generation_id .. '\n' .. ended_by .. '\n' .. model .. '\n' .. admitted .. '\n'
  .. estimate .. '\n' .. attempts .. '\n' .. reconcile_ms .. '\n' .. funding
if known ~= hold then redis.call('SET', hold_key, known) end
if given(ARGV[7]) then
  -- include: verdict
  note_verdict(KEYS[3], version, ARGV[7], KEYS[4])
end
if not given(ARGV[4]) then return '1 ' .. active .. '0' end
local due_ms = now_ms + tonumber(ARGV[4])
-- Keep the fraction, which marks a request as sent.
local mark = (redis.call('ZSCORE', due_key, ARGV[2]) or 0) % 1
redis.call('ZADD', due_key, 'XX', string.format('%.1f', due_ms + mark), ARGV[2])
return '1 ' .. active .. whole(due_ms)
