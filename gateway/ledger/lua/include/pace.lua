-- How fast a budget may be used: how many requests may be open at once, and how many may begin in a minute, all of them
-- at once or evenly spread (the generic cell rate algorithm). Returns a refusing code and the ms to wait, or nil and
-- what `rate_ms` becomes once this request is placed: the time until which the requests so far would take, spread evenly.
local function pace(open, most, per_minute, rate_ms, now_ms)
  if open >= most + 0 then return -10, 0 end
  local step_ms = 60000 / per_minute
  -- No further ahead than a minute: a clock that stepped back must lock nobody out.
  local next_ms = math.max(now_ms, math.min((rate_ms or 0) + 0, now_ms + 60000)) + step_ms
  if next_ms > now_ms + 60000.0005 then return -9, math.ceil(next_ms - now_ms - 60000) end
  return nil, next_ms % 1 == 0 and whole(next_ms) or string.format('%.3f', next_ms)
end
