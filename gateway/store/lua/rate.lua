--[[ rate: admit at most `most` calls in any window of `window_ms`; refused calls do not count.
KEYS[1] calls  zset   one member a call, score = ms
ARGV[1] most
ARGV[2] window_ms
ARGV[3] call_id
RETURNS 0 = admitted, else the ms to wait
REPEAT with the same call id counts once. ]]
-- include: window
local calls_key, most, window_ms = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
-- include: now
redis.call('ZREMRANGEBYSCORE', calls_key, '-inf', whole(now_ms - window_ms))
if redis.call('ZSCORE', calls_key, ARGV[3]) then return 0 end
if redis.call('ZCARD', calls_key) >= most then
  local oldest = redis.call('ZRANGE', calls_key, 0, 0, 'WITHSCORES')
  return math.max(1, tonumber(oldest[2]) + window_ms - now_ms)
end
redis.call('ZADD', calls_key, whole(now_ms), ARGV[3])
redis.call('PEXPIRE', calls_key, window_ms)
return 0
