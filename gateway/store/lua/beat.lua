--[[ beat: prove that this is the Redis we knew, no older than we left it.
KEYS[1] instance  hash   epoch, salt, beat, accepted, older, since_ms
ARGV[1] epoch        a new epoch, used only to begin an empty Redis or to accept one
ARGV[2] salt         used only to begin an empty Redis
ARGV[3] begin        '1' = an empty Redis may be begun: the caller has never known another
ARGV[4] accept       '1' = the operator says this Redis is the truth from now on, whatever is missing
ARGV[5] known_epoch  what the caller knew, '' = nothing
ARGV[6] known_beat   the newest beat it saw of that epoch
ARGV[7] known_ms     when that epoch was begun or accepted
RETURNS {epoch, salt, beat, accepted, older, since_ms}  epoch is '' when the Redis is empty; older is 1 once a caller knew a
  newer beat of this epoch, until an operator accepts it: the beats count past it, and who starts later never knew it;
  since_ms is when this epoch was begun or accepted: of two that were accepted the later one counts
REPEAT counts on. ]]
local instance_key = KEYS[1]
local known = redis.call('HMGET', instance_key, 'epoch', 'beat', 'since_ms')
local seconds, micros = unpack(redis.call('TIME'))
-- A clock that was set back makes no acceptance older than the last.
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
