--[[ app_pace: count calls of an app that one process has let through, and tell how far all processes have come.
KEYS[1] pace    string  ms until which the app's calls so far would take, spread evenly (as of include/pace.lua)
KEYS[2] report  string  that these calls were counted
ARGV[1] calls
ARGV[2] per_minute
ARGV[3] since_ms  how long ago the first of them came at the earliest
RETURNS how many ms that time lies ahead of now
REPEAT of a report counts nothing: its key is kept for two minutes, and by then its calls have left the minute. ]]
-- include: window
local pace_key, report_key = KEYS[1], KEYS[2]
-- include: now
-- A minute is allowed at once; each process may let some calls through before it learns of others. A clock that stepped
-- back must not block an app, so two minutes are the furthest.
local most_ms = now_ms + 120000
local free_ms = math.min(tonumber(redis.call('GET', pace_key) or '0'), most_ms)
if redis.call('SET', report_key, '', 'NX', 'PX', 120000) then
  free_ms = math.min(math.max(free_ms, now_ms - ARGV[3]) + ARGV[1] * 60000 / ARGV[2], most_ms)
  redis.call('SET', pace_key, string.format('%.3f', free_ms), 'PX', 120000)
end
return string.format('%.3f', math.max(0, free_ms - now_ms))
