--[[ replace: compare and set: replace a value unless it was changed since it was read.
KEYS[1] holder  hash, or the string of an open hold, which ends with its sealed value
ARGV[1] field   '' = the end of the string
ARGV[2] old
ARGV[3] new
RETURNS 1 replaced, 0 it was changed or deleted meanwhile
REPEAT returns 0. ]]
if ARGV[1] == '' then
  local hold = redis.call('GET', KEYS[1]) or ''
  if hold:sub(1, 5) ~= 'open\n' or hold:sub(-#ARGV[2]) ~= ARGV[2] then return 0 end
  redis.call('SET', KEYS[1], hold:sub(1, -#ARGV[2] - 1) .. ARGV[3])
  return 1
end
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
