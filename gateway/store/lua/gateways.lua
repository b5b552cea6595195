--[[ gateways: sign a process on or off, and list the live ones, so that a cut can wait for each of them.
KEYS[1] gateways  zset   process id -> ms until which it counts as alive
ARGV[1] process_id   '' = only list
ARGV[2] alive_ms     how long the sign-on lasts; 0 = sign off
RETURNS the ids that are alive
REPEAT gives the same. ]]
-- include: window
local gateways_key, process_id, alive_ms = KEYS[1], ARGV[1], tonumber(ARGV[2])
-- include: now
if process_id ~= '' and alive_ms > 0 then
  redis.call('ZADD', gateways_key, whole(now_ms + alive_ms), process_id)
elseif process_id ~= '' then
  redis.call('ZREM', gateways_key, process_id)
end
redis.call('ZREMRANGEBYSCORE', gateways_key, '-inf', '(' .. whole(now_ms))
return redis.call('ZRANGE', gateways_key, 0, -1)
