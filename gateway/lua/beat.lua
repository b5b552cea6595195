--[[ beat: prove that this is the Redis we knew, no older than we left it.
KEYS[1] instance  hash   epoch, salt, beat, accepted
ARGV[1] epoch     a new epoch, used only to begin an empty Redis
ARGV[2] salt      likewise
ARGV[3] begin     '1' = an empty Redis may be begun: the caller has never known another
ARGV[4] accept    '1' = the operator says this Redis is the truth from now on, whatever is missing
RETURNS {epoch, salt, beat, accepted}  epoch is '' when the Redis is empty
REPEAT counts on. ]]
local instance_key = KEYS[1]
local known = redis.call('HGET', instance_key, 'epoch')
if not known and (ARGV[3] == '1' or ARGV[4] == '1') then
  redis.call('HSET', instance_key, 'epoch', ARGV[1], 'salt', ARGV[2], 'beat', 0, 'accepted', ARGV[4])
elseif not known then
  return {'', '', 0, 0}
elseif ARGV[4] == '1' then
  redis.call('HSET', instance_key, 'epoch', ARGV[1], 'accepted', 1)
end
local beat = redis.call('HINCRBY', instance_key, 'beat', 1)
local fields = redis.call('HMGET', instance_key, 'epoch', 'salt', 'accepted')
return {fields[1], fields[2], beat, tonumber(fields[3] or '0')}
