-- How fast a budget may be used: how many requests may be open at once, and how many may begin in a minute, all of them
-- at once or evenly spread (the generic cell rate algorithm). Returns a refusing code and the ms to wait, or nil and
-- what `rate_ms` becomes once this request is placed: the time until which the requests so far would take, spread evenly.
local function pace(open, most, per_minute, rate_ms, now_ms)
  if open >= most + 0 then return -10, 0 end
  -- No further ahead than a minute: a clock that stepped back must lock nobody out.
  local taken_ms, latest_ms = (rate_ms or 0) + 0, now_ms + 60000
  if taken_ms < now_ms then taken_ms = now_ms elseif taken_ms > latest_ms then taken_ms = latest_ms end
  local next_ms = taken_ms + 60000 / per_minute
  if next_ms > latest_ms + 0.0005 then return -9, math.ceil(next_ms - latest_ms) end
  return nil, next_ms
end
