-- A budget's consent history: a stream with one receipt for each change, written by the script that makes the change.
-- A repeat comes from a caller that lost the answer a moment ago, so only the newest receipts are searched.
local RECENT_RECEIPTS = 16

local function is_written(history_key, receipt_id)
  for _, entry in ipairs(redis.call('XREVRANGE', history_key, '+', '-', 'COUNT', RECENT_RECEIPTS)) do
    if entry[2][2] == receipt_id then return true end
  end
  return false
end

-- `receipt` must be the first field: is_written reads it by position.
local function write_receipt(history_key, receipt_id, event, by, now_ms, ...)
  redis.call('XADD', history_key, '*', 'receipt', receipt_id, 'event', event, 'by', by, 'at_ms', whole(now_ms), ...)
end
