-- Returns the spend of the window and the day used as today, as stored. A clock that stepped back (failover) never
-- reopens a day. Buckets older than keep_days are deleted, which bounds the sum. It is computed once a day, and stored as
-- the budget's window_nano as of window_day.
local function roll_window(budget_key, days_key, today, keep_days, window_day, window_nano)
  if window_day and window_day + 0 >= today then return window_nano, window_day end
  local spent = 0
  local buckets = redis.call('HGETALL', days_key)
  for i = 1, #buckets, 2 do
    local bucket = tonumber(buckets[i])
    if bucket <= today - keep_days then
      redis.call('HDEL', days_key, buckets[i])
    elseif bucket > today - WINDOW_DAYS then
      spent = spent + tonumber(buckets[i + 1])
    end
  end
  window_day, window_nano = whole(today), whole(spent)
  -- The day of a threshold's last event may have left the window, so the next settlement checks the thresholds.
  redis.call('HSET', budget_key, 'window_day', window_day, 'window_nano', window_nano, 'next_threshold_nano', '0')
  return window_nano, window_day
end
