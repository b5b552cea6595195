-- include: event
-- Tells an app that 50, 80 and 100 % of a cap are spent, each once a window and cap. `told_days` has the days on which that
-- was told, '0' for never. A settlement compares no more than `quiet_nano`: below so much spend there is nothing to tell.
-- Returns whether anything was told.
local function tell_thresholds(budget_key, events_key, window_nano, window_day)
  local PERCENTS, MOST = {50, 80, 100}, '9007199254740991'
  local state, cap_nano, told_days = unpack(redis.call('HMGET', budget_key, 'state', 'cap_nano', 'told_days'))
  local cap, days, quiet, is_told = tonumber(cap_nano or ''), {}, MOST, false
  if (state ~= 'active' and state ~= 'paused') or not cap or cap <= 0 then
    redis.call('HSET', budget_key, 'quiet_nano', MOST)
    return false
  end
  for day in (told_days or '0 0 0'):gmatch('%d+') do days[#days + 1] = tonumber(day) end
  for i, percent in ipairs(PERCENTS) do
    if days[i] + WINDOW_DAYS <= window_day + 0 then
      local nano = math.ceil(cap * percent / 100)
      if window_nano >= nano then
        write_event(events_key, 'budget.threshold', 'percent', percent, 'cap_nano', cap_nano, 'spent_nano', whole(window_nano))
        days[i], is_told = window_day + 0, true
      elseif quiet == MOST then
        quiet = whole(nano)
      end
    end
  end
  redis.call('HSET', budget_key, 'quiet_nano', quiet, 'told_days', table.concat(days, ' '))
  if is_told then redis.call('HSET', budget_key, 'untold', '1') end
  return is_told
end
