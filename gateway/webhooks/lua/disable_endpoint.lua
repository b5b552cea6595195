--[[ disable_endpoint: disable the webhook endpoint of an app, unless it was set again or removed meanwhile.
KEYS[1] webhook  hash
ARGV[1] url
ARGV[2] since_ms  as it was when the attempt began
RETURNS 1 it is disabled, 0 it is another one, or none
REPEAT changes nothing but the time. ]]
-- include: window
local url, since_ms = unpack(redis.call('HMGET', KEYS[1], 'url', 'since_ms'))
if url ~= ARGV[1] or since_ms ~= ARGV[2] then return 0 end
-- include: now
redis.call('HSET', KEYS[1], 'gone_ms', whole(now_ms))
return 1
