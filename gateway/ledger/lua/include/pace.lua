-- Rate limits of a budget: the most requests open at once, and the most that begin in a minute, in a burst or evenly
-- spread (generic cell rate algorithm). For admit.lua: sets `slow`, a refusing code or nil, and `paced`: the ms to wait, or
-- the new `rate_ms` to store if the request is placed: the time until which the requests so far would last if evenly spread.
local slow, paced
if open >= OPEN_MOST then
  slow, paced = -10, 0
else
  -- Clamp to a minute ahead, so that a clock that stepped back does not block a budget.
  local taken_ms, latest_ms = (rate_ms or 0) + 0, now_ms + 60000
  if taken_ms < now_ms then taken_ms = now_ms elseif taken_ms > latest_ms then taken_ms = latest_ms end
  paced = taken_ms + 60000 / PER_MINUTE
  if paced > latest_ms + 0.0005 then slow, paced = -9, math.ceil(paced - latest_ms) end
end
