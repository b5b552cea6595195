--[[ decide: an attempt's state machine: pending -> claimed -> approved, claimed -> held -> approved, pending -> denied.
A claim that was not carried out is undone: claimed -> pending ('release'), claimed or held -> denied ('cancel').
KEYS[1] attempt  hash
ARGV[1] verb   'claim', 'hold', 'approve', 'deny', 'release', 'cancel'
ARGV[2] given  for 'claim' and 'approve': the decision as JSON, stored with the attempt; '' = keep the stored one.
               For 'release' and 'cancel': the `claim` id of the decision to undo
RETURNS {code, state, decision}
  1 moved, 0 it was already there or further, -1 unknown, -2 expired, -3 decided otherwise
REPEAT returns 0 with the first decision and changes nothing. ]]
-- include: window
local moves = {
  claim = { from = { pending = true }, to = 'claimed', past = { claimed = true, held = true, approved = true } },
  hold = { from = { claimed = true }, to = 'held', past = { held = true, approved = true } },
  approve = { from = { claimed = true, held = true }, to = 'approved', past = { approved = true } },
  deny = { from = { pending = true }, to = 'denied', past = { denied = true } },
  release = { from = { claimed = true }, to = 'pending', past = { pending = true }, takes_back = true },
  cancel = { from = { claimed = true, held = true }, to = 'denied', past = { denied = true }, takes_back = true },
}
local attempt_key, move, given = KEYS[1], moves[ARGV[1]], ARGV[2]
local fields = redis.call('HMGET', attempt_key, 'state', 'expires_ms', 'decision')
local state, decision = fields[1], fields[3] or ''
if not state then return {-1, '', ''} end
if move.past[state] then return {0, state, decision} end
if not move.from[state] then return {-3, state, decision} end
-- include: now
if state ~= 'claimed' and not move.takes_back and now_ms >= tonumber(fields[2]) then return {-2, state, decision} end
if move.takes_back then
  -- The stored decision may be a newer claim than the one to undo.
  local taken = cjson.decode(decision)
  if taken.claim ~= given then return {-3, state, decision} end
  -- Keep the digest of a cancelled decision's code, so that redeeming the code reports "denied".
  taken.funding, taken.code = '', ''
  decision = move.to == 'denied' and cjson.encode(taken) or ''
elseif given ~= '' then
  decision = given
end
redis.call('HSET', attempt_key, 'state', move.to, 'decision', decision, 'decided_ms', whole(now_ms))
return {1, move.to, decision}
