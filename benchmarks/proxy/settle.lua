-- Ends the hold of the request ARGV[1] in KEYS[2] and books ARGV[2] on the budget KEYS[1], once.
local held = redis.call('HGET', KEYS[2], ARGV[1])
if not held then return 0 end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HINCRBY', KEYS[1], 'held', '-' .. held)
redis.call('HINCRBY', KEYS[1], 'spent', ARGV[2])
return 1
