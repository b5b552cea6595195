-- Rate limits of a budget: the most requests open at once, and the most that begin in a minute, in a burst or evenly
-- spread (generic cell rate algorithm). Returns a refusing code and the ms to wait, or nil and the new `rate_ms` to store
-- if the request is placed: the time until which the requests so far would last if evenly spread.
local function pace(open, most, per_minute, rate_ms, now_ms)
  if open >= most + 0 then return -10, 0 end
  -- Clamp to a minute ahead, so that a clock that stepped back does not block a budget.
  local taken_ms, latest_ms = (rate_ms or 0) + 0, now_ms + 60000
  if taken_ms < now_ms then taken_ms = now_ms elseif taken_ms > latest_ms then taken_ms = latest_ms end
  local next_ms = taken_ms + 60000 / per_minute
  if next_ms > latest_ms + 0.0005 then return -9, math.ceil(next_ms - latest_ms) end
  return nil, next_ms
end
