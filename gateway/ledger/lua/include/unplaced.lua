-- Answers an admission that places nothing: one that is refused or waits, and one that is asked for again, whose first
-- answer is in its hold. For admit.lua, whose KEYS and ARGV it reads.
local function unplaced(code, amount, uses_left, is_overdue, cap_nano, held_nano, window_nano)
  local told = ' ' .. (cap_nano or '-1') .. ' ' .. held_nano .. ' '
  local earlier = code > -7 and redis.call('GET', KEYS[4])
  if not earlier then
    local said = (code > -7 and '0' or amount) .. '\n\n\n\n' .. code .. '\n0\n' .. window_nano
    return uses_left .. (is_overdue and ' 1 0' or ' 0 0') .. told .. said .. ' '
  end
  local state, _, _, _, admitted, _, _, _, _, said, _, _, _, sealed = earlier:match(HOLD)
  if state == 'void' or said == '' then return uses_left .. ' 0 0' .. told .. '0\n\n\n\n-6\n0\n0 ' end
  local due_ms = whole(math.floor(redis.call('ZSCORE', KEYS[3], ARGV[1]) or 0))
  return uses_left .. ' 0 ' .. due_ms .. told .. admitted .. ' ' .. (state == 'open' and sealed or '')
end
