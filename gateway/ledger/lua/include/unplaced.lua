-- Returns the reply of an admission that places no hold: a refused or waiting request, or a repeat, whose first reply is
-- in its hold. For admit.lua, whose KEYS and ARGV it reads.
local function unplaced(code, amount, uses_left, is_overdue, cap_nano, held_nano, window_nano)
  local sums = ' ' .. (cap_nano or '-1') .. ' ' .. held_nano .. ' '
  local earlier = code > -7 and redis.call('GET', KEYS[3])
  if not earlier then
    local fields = (code > -7 and '0' or amount) .. '\n\n\n\n' .. code .. '\n0\n' .. window_nano
    return uses_left .. (is_overdue and ' 1' or ' 0') .. sums .. fields .. ' '
  end
  local state, _, _, _, admitted, _, _, _, _, first_code, _, _, _, sealed = earlier:match(HOLD)
  if state == 'void' or first_code == '' then return uses_left .. ' 0' .. sums .. '0\n\n\n\n-6\n0\n0 ' end
  return uses_left .. ' 0' .. sums .. admitted .. ' ' .. (state == 'open' and sealed or '')
end
