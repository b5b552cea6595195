-- The rolling month: the UTC day of the spend and the 29 days before it, by Redis's own clock.
local WINDOW_DAYS = 30
local DAY_SECONDS = 86400

-- Lua prints 1e15 as "1e+15" and minus nothing as "-0", which no integer command takes.
local function whole(number)
  return string.format('%.0f', number + 0)
end

local function clock()
  local time = redis.call('TIME')
  local seconds = tonumber(time[1])
  return seconds * 1000 + math.floor(tonumber(time[2]) / 1000), math.floor(seconds / DAY_SECONDS)
end

-- Returns what is spent in the window and the day it counts as today. A clock that stepped back (failover) never
-- reopens a day. Buckets older than keep_days are dropped, so the sum stays bounded; it is redone once a day.
local function roll_window(budget_key, days_key, today, keep_days)
  local cached = redis.call('HMGET', budget_key, 'window_day', 'window_nano')
  local day = tonumber(cached[1])
  if day and day >= today then
    return tonumber(cached[2]), day
  end
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
  redis.call('HSET', budget_key, 'window_day', whole(today), 'window_nano', whole(spent))
  return spent, today
end
