--[[ leave: remove an abandoned request from its budget's queue.
KEYS[1] budget  hash
KEYS[2] queue   zset
KEYS[3] alive   hash
ARGV[1] channel     its process's wake channel
ARGV[2] request_id
RETURNS 1
REPEAT changes nothing. ]]
-- include: window
-- include: queue
queue_of(KEYS[1], KEYS[2], KEYS[3]).leave(ARGV[1] .. ' ' .. ARGV[2])
return 1
