--[[ note: keep with an attempt why its funding failed last; one that has expired does not come back by it.
KEYS[1] attempt  hash
ARGV[1] fault  '' = it did not fail
RETURNS 1 noted, 0 not known
REPEAT changes nothing. ]]
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'fault', ARGV[1])
return 1
