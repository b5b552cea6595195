--[[ drop_events: delete a budget's events up to one, because its app has no webhook endpoint and a stream takes 4 KB.
KEYS[1] events    stream
KEYS[2] delivery  hash
ARGV[1] entry_id  the newest event to delete; later ones are kept
RETURNS 1
REPEAT changes nothing. ]]
local events_key, ms, number = KEYS[1], ARGV[1]:match('^(%d+)%-(%d+)$')
redis.call('XTRIM', events_key, 'MINID', '=', string.format('%s-%d', ms, number + 1))
if redis.call('XLEN', events_key) == 0 then redis.call('DEL', events_key, KEYS[2]) end
return 1
