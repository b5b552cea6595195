--[[ finish: drop the funding key of a grant that has ended, unless a hold of it is open: its settlement does it then.
KEYS[1] budget  hash
KEYS[2] due     zset
KEYS[3] events  stream  events for webhooks
RETURNS -1 done, or there is no such grant; 0 a hold is open; else how many ms the grant has left
REPEAT changes nothing more. ]]
-- include: window
-- include: grant_end
local now_ms = clock()
return end_uses(KEYS[1], KEYS[2], KEYS[3], now_ms)
