--[[ set_endpoint: set the webhook endpoint of an app. An app that had none, or whose endpoint was disabled, gets the
events from now on, by Redis's clock, which also numbers the events.
KEYS[1] webhook  hash
ARGV[1] url
ARGV[2] secret   sealed; stored unless there is one
RETURNS 1 the secret was stored, 0 there was one
REPEAT returns 0 and changes nothing. ]]
-- include: window
local webhook_key = KEYS[1]
local url, gone_ms = unpack(redis.call('HMGET', webhook_key, 'url', 'gone_ms'))
-- include: now
if not url or gone_ms then redis.call('HSET', webhook_key, 'since_ms', whole(now_ms)) end
redis.call('HSET', webhook_key, 'url', ARGV[1])
redis.call('HDEL', webhook_key, 'gone_ms')
return redis.call('HSETNX', webhook_key, 'secret', ARGV[2])
