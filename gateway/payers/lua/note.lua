--[[ note: store in an attempt why its funding failed last, without recreating an expired attempt.
KEYS[1] attempt  hash
ARGV[1] fault  '' = it did not fail
RETURNS 1 stored, 0 unknown
REPEAT changes nothing. ]]
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'fault', ARGV[1])
return 1
