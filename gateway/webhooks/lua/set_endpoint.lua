--[[ set_endpoint: have an app told of events at a URL. One that was told nowhere, or whose endpoint was gone, is told
of what happens from now on, by the clock that events have too.
KEYS[1] webhook  hash
ARGV[1] url
ARGV[2] secret   sealed; taken where there is none
RETURNS 1 the secret was taken, 0 there is one
REPEAT returns 0 and changes nothing. ]]
-- include: window
local webhook_key = KEYS[1]
local url, gone_ms = unpack(redis.call('HMGET', webhook_key, 'url', 'gone_ms'))
if not url or gone_ms then redis.call('HSET', webhook_key, 'since_ms', whole((clock()))) end
redis.call('HSET', webhook_key, 'url', ARGV[1])
redis.call('HDEL', webhook_key, 'gone_ms')
return redis.call('HSETNX', webhook_key, 'secret', ARGV[2])
