--[[ beat: a heartbeat: report this Redis's epoch and counter, initialise or accept it if asked, mark it older.
KEYS[1] instance  hash   epoch, salt, beat, accepted, older, since_ms
ARGV[1] epoch        a new epoch id, used only to initialise an empty Redis or to accept one
ARGV[2] salt         used only to initialise an empty Redis
ARGV[3] begin        '1' = an empty Redis may be initialised: the caller has never known another
ARGV[4] accept       '1' = an operator accepts this Redis as it is, even if data is missing
ARGV[5] known_epoch  the epoch that the caller knows, '' = none
ARGV[6] known_beat   the highest beat it saw of that epoch
ARGV[7] known_ms     when that epoch began or was accepted
RETURNS {epoch, salt, beat, accepted, older, since_ms}  epoch is '' when the Redis is empty; older is 1 once a caller knew a
  higher beat of this epoch, and stays 1 until an operator accepts it, because the counter passes the known value again;
  since_ms is when this epoch began or was accepted: of two accepted epochs the later one is valid
REPEAT increments the beat again. ]]
local instance_key = KEYS[1]
local known = redis.call('HMGET', instance_key, 'epoch', 'beat', 'since_ms')
local seconds, micros = unpack(redis.call('TIME'))
-- Even when the clock was set back, an acceptance must be later than the last one.
local since_ms = math.max(tonumber(seconds) * 1000 + math.floor(tonumber(micros) / 1000), tonumber(known[3] or '0') + 1,
  tonumber(ARGV[7] or '0') + 1)
if not known[1] and (ARGV[3] == '1' or ARGV[4] == '1') then
  redis.call('HSET', instance_key, 'epoch', ARGV[1], 'salt', ARGV[2], 'beat', 0, 'accepted', ARGV[4],
    'since_ms', string.format('%.0f', since_ms))
elseif not known[1] then
  return {'', '', 0, 0, 0, 0}
elseif ARGV[4] == '1' then
  redis.call('HSET', instance_key, 'epoch', ARGV[1], 'accepted', 1, 'since_ms', string.format('%.0f', since_ms))
  redis.call('HDEL', instance_key, 'older')
elseif known[1] == ARGV[5] and tonumber(known[2]) < tonumber(ARGV[6]) then
  redis.call('HSET', instance_key, 'older', 1)
end
local beat = redis.call('HINCRBY', instance_key, 'beat', 1)
local fields = redis.call('HMGET', instance_key, 'epoch', 'salt', 'accepted', 'older', 'since_ms')
local flags = {tonumber(fields[3] or '0'), tonumber(fields[4] or '0'), tonumber(fields[5] or '0')}
return {fields[1], fields[2], beat, unpack(flags)}
