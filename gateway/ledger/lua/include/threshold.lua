-- include: event
-- Writes an event for each of 50, 80 and 100 % of the cap that the window's spend has reached, once for each window and
-- cap. `threshold_days`: the UTC day of each one's last event, '0' for none. `next_threshold_nano`: below this spend no
-- event is due, so a settlement compares nothing else. Returns whether an event was written.
local function write_thresholds(budget_key, events_key, window_nano, window_day)
  local PERCENTS, MOST = {50, 80, 100}, '9007199254740991'
  local state, cap_nano, threshold_days = unpack(redis.call('HMGET', budget_key, 'state', 'cap_nano', 'threshold_days'))
  local cap, days, quiet, is_written = tonumber(cap_nano or ''), {}, MOST, false
  if (state ~= 'active' and state ~= 'paused') or not cap or cap <= 0 then
    redis.call('HSET', budget_key, 'next_threshold_nano', MOST)
    return false
  end
  for day in (threshold_days or '0 0 0'):gmatch('%d+') do days[#days + 1] = tonumber(day) end
  for i, percent in ipairs(PERCENTS) do
    if days[i] + WINDOW_DAYS <= window_day + 0 then
      local nano = math.ceil(cap * percent / 100)
      if window_nano >= nano then
        write_event(events_key, 'budget.threshold', 'percent', percent, 'cap_nano', cap_nano, 'spent_nano', whole(window_nano))
        days[i], is_written = window_day + 0, true
      elseif quiet == MOST then
        quiet = whole(nano)
      end
    end
  end
  redis.call('HSET', budget_key, 'next_threshold_nano', quiet, 'threshold_days', table.concat(days, ' '))
  if is_written then redis.call('HSET', budget_key, 'unlisted_events', '1') end
  return is_written
end
