--[[ replace: put a new value into a hash's field, unless it was changed since it was read.
KEYS[1] holder  hash
ARGV[1] field
ARGV[2] old
ARGV[3] new
RETURNS 1 replaced, 0 it was changed or dropped meanwhile
REPEAT returns 0. ]]
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
