--[[ begin: open an attempt for one browser, once.
KEYS[1] attempt  hash
ARGV[1] browser   digest of the browser's cookie
ARGV[2] asked     the consent request as JSON
ARGV[3] life_ms   how long the payer may decide
ARGV[4] kept_ms   how long the outcome is kept after that
RETURNS 1 opened, 0 this browser had opened it, -1 another browser had
REPEAT returns 0 and changes nothing. ]]
-- include: window
local attempt_key = KEYS[1]
local known = redis.call('HGET', attempt_key, 'browser')
if known then
  return known == ARGV[1] and 0 or -1
end
-- include: now
local life_ms = tonumber(ARGV[3])
redis.call('HSET', attempt_key, 'browser', ARGV[1], 'asked', ARGV[2], 'state', 'pending',
  'created_ms', whole(now_ms), 'expires_ms', whole(now_ms + life_ms))
redis.call('PEXPIRE', attempt_key, whole(life_ms + tonumber(ARGV[4])))
return 1
