-- Holds ARGV[2] of the budget KEYS[1] for the request ARGV[3], listed in KEYS[2], if the cap ARGV[1] leaves room: 1, else 0.
local spent = tonumber(redis.call('HGET', KEYS[1], 'spent') or '0')
local held = tonumber(redis.call('HGET', KEYS[1], 'held') or '0')
if spent + held + tonumber(ARGV[2]) > tonumber(ARGV[1]) then return 0 end
redis.call('HINCRBY', KEYS[1], 'held', ARGV[2])
redis.call('HSET', KEYS[2], ARGV[3], ARGV[2])
return 1
