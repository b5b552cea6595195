-- The rolling month: 30 UTC days, today included, by Redis's clock.
local WINDOW_DAYS = 30
local DAY_MS = 86400000

-- Formats a whole number for Redis. Lua's own formatting gives "1e+15" and "-0", which integer commands refuse. %d takes
-- less than half the time of %.0f, but its C type `long` may have 32 bits, and then it prints the nearest limit.
local function whole(number)
  local said = string.format('%d', number)
  if said == '2147483647' or said == '-2147483648' then return string.format('%.0f', number) end
  return said
end
