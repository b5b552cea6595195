--[[ receipt: write one line into a budget's consent history, once.
KEYS[1] history  stream
ARGV[1] receipt_id   '' = each call writes
ARGV[2] event        approved, cap, paused, resumed, revoked, funding
ARGV[3] body         JSON
RETURNS 1 written, 0 it was there
REPEAT writes nothing when the receipt is among the last sixteen. ]]
-- include: window
local history_key = KEYS[1]
if ARGV[1] ~= '' then
  for _, entry in ipairs(redis.call('XREVRANGE', history_key, '+', '-', 'COUNT', 16)) do
    if entry[2][2] == ARGV[1] then return 0 end
  end
end
local now_ms = clock()
redis.call('XADD', history_key, '*', 'receipt', ARGV[1], 'event', ARGV[2], 'at_ms', whole(now_ms), 'body', ARGV[3])
return 1
