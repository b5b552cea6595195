-- The rolling month: the UTC day of the spend and the 29 days before it, by Redis's own clock.
local WINDOW_DAYS = 30
local DAY_MS = 86400000

-- Lua prints 1e15 as "1e+15" and minus nothing as "-0", which no integer command takes. %d does neither and costs less
-- than half of %.0f, but holds no more than a long: where that has 32 bits it prints one of its ends for what is beyond.
local function whole(number)
  local said = string.format('%d', number)
  if said == '2147483647' or said == '-2147483648' then return string.format('%.0f', number) end
  return said
end

local function clock()
  local time = redis.call('TIME')
  local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
  return now_ms, math.floor(now_ms / DAY_MS)
end
