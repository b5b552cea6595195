--[[ finish: delete the funding key of an ended grant, unless a hold is open, whose settlement will do it.
KEYS[1] budget  hash
KEYS[2] due     zset
KEYS[3] events  stream  events for webhooks
RETURNS -1 done, or no such grant; 0 a hold is open; else the ms until the grant expires
REPEAT changes nothing more. ]]
-- include: window
-- include: grant_end
-- include: now
return end_uses(KEYS[1], KEYS[2], KEYS[3], now_ms)
