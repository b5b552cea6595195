-- The time by Redis's clock, and its UTC day, which is the same throughout a script.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local today = math.floor(now_ms / DAY_MS)
