--[[ extend: extend the payer's time to decide, a bounded number of times.
KEYS[1] attempt  hash
ARGV[1] life_ms     the new time to decide, from now
ARGV[2] kept_ms     how long the outcome is kept after that
ARGV[3] most        the maximal number of extensions
ARGV[4] expires_ms  the end that the caller knows: only this one is extended
RETURNS 1 extended, 0 not (its end differs, or too many extensions), -1 unknown, -2 expired, -3 decided
REPEAT returns 0 and changes nothing. ]]
-- include: window
local attempt_key = KEYS[1]
local fields = redis.call('HMGET', attempt_key, 'state', 'expires_ms', 'extensions')
if not fields[1] then return -1 end
if fields[1] ~= 'pending' then return -3 end
-- include: now
if now_ms >= tonumber(fields[2]) then return -2 end
if fields[2] ~= ARGV[4] or tonumber(fields[3] or 0) >= tonumber(ARGV[3]) then return 0 end
local life_ms = tonumber(ARGV[1])
-- The new end must differ from the old one, even within the same millisecond: it identifies a repeat.
redis.call('HSET', attempt_key, 'expires_ms', whole(math.max(now_ms + life_ms, tonumber(fields[2]) + 1)))
redis.call('HINCRBY', attempt_key, 'extensions', 1)
redis.call('PEXPIRE', attempt_key, whole(life_ms + tonumber(ARGV[2])))
return 1
