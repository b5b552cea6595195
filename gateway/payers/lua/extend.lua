--[[ extend: give the payer as much time again to decide, a bounded number of times.
KEYS[1] attempt  hash
ARGV[1] life_ms     how long it may then be decided, from now
ARGV[2] kept_ms     how long its outcome is remembered after that
ARGV[3] most        how often at most
ARGV[4] expires_ms  the end that the caller knows: only that one is moved
RETURNS 1 extended, 0 not (its end was moved before, or that was too often), -1 not known, -2 expired, -3 decided
REPEAT returns 0 and changes nothing. ]]
-- include: window
local attempt_key = KEYS[1]
local fields = redis.call('HMGET', attempt_key, 'state', 'expires_ms', 'extensions')
if not fields[1] then return -1 end
if fields[1] ~= 'pending' then return -3 end
local now_ms = clock()
if now_ms >= tonumber(fields[2]) then return -2 end
if fields[2] ~= ARGV[4] or tonumber(fields[3] or 0) >= tonumber(ARGV[3]) then return 0 end
local life_ms = tonumber(ARGV[1])
-- Never the same end again, not within one millisecond either: a repeat is known by it.
redis.call('HSET', attempt_key, 'expires_ms', whole(math.max(now_ms + life_ms, tonumber(fields[2]) + 1)))
redis.call('HINCRBY', attempt_key, 'extensions', 1)
redis.call('PEXPIRE', attempt_key, whole(life_ms + tonumber(ARGV[2])))
return 1
