-- Answers an admission that places nothing: one that is refused, or one that is asked for again, whose first answer stands
-- in its hold. For admit.lua, whose KEYS and ARGV it reads.
local function first_answer(uses_left, verdict, window_nano, held_nano, cap_nano, told)
  local earlier = redis.call('GET', KEYS[4])
  if not earlier then return uses_left .. ' ' .. verdict .. ' 0 0 ' .. window_nano .. ' ' .. held_nano .. told .. '0 ' end
  local state, _, _, _, admitted, nano, _, _, _, said, _, _, _, sealed = earlier:match(HOLD)
  if state == 'void' or said == '' then return uses_left .. ' -6 0 0 0 ' .. held_nano .. ' ' .. cap_nano .. ' 0 0 ' end
  local told_tokens, told_spent = admitted:match('([^\n]*)\n([^\n]*)$')
  local told_due = whole(math.floor(redis.call('ZSCORE', KEYS[3], ARGV[1]) or 0))
  return table.concat({uses_left, said, nano, told_tokens, told_spent, held_nano, cap_nano, 0, told_due,
    state == 'open' and sealed or ''}, ' ')
end
