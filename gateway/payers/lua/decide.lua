--[[ decide: move an attempt along its one way: pending -> claimed -> approved, claimed -> held -> approved, or pending -> denied.
KEYS[1] attempt  hash
ARGV[1] verb       'claim', 'hold', 'approve', 'deny'
ARGV[2] decision   for 'claim': what was decided, kept with the attempt; '' = keep
RETURNS {code, state, decision}
  1 moved, 0 it had come that far before, -1 not known, -2 expired, -3 it was decided otherwise
REPEAT returns 0 with the first decision and changes nothing. ]]
-- include: window
local moves = {
  claim = { from = { pending = true }, to = 'claimed', past = { claimed = true, held = true, approved = true } },
  hold = { from = { claimed = true }, to = 'held', past = { held = true, approved = true } },
  approve = { from = { claimed = true, held = true }, to = 'approved', past = { approved = true } },
  deny = { from = { pending = true }, to = 'denied', past = { denied = true } },
}
local attempt_key, move = KEYS[1], moves[ARGV[1]]
local fields = redis.call('HMGET', attempt_key, 'state', 'expires_ms', 'decision')
local state, decision = fields[1], fields[3] or ''
if not state then return {-1, '', ''} end
if move.past[state] then return {0, state, decision} end
if not move.from[state] then return {-3, state, decision} end
local now_ms = clock()
if state ~= 'claimed' and now_ms >= tonumber(fields[2]) then return {-2, state, decision} end
if ARGV[2] ~= '' then
  decision = ARGV[2]
  redis.call('HSET', attempt_key, 'decision', decision)
end
redis.call('HSET', attempt_key, 'state', move.to, 'decided_ms', whole(now_ms))
return {1, move.to, decision}
