-- A connection's consent history: a stream with one receipt for each change, written in the very step that makes it.
-- A repeat comes from one caller whose answer was lost, so it is looked for among the newest receipts only.
local RECENT_RECEIPTS = 16

local function is_written(history_key, receipt_id)
  for _, entry in ipairs(redis.call('XREVRANGE', history_key, '+', '-', 'COUNT', RECENT_RECEIPTS)) do
    if entry[2][2] == receipt_id then return true end
  end
  return false
end

-- `receipt` stays the first field: is_written reads it by its place.
local function write_receipt(history_key, receipt_id, event, by, now_ms, ...)
  redis.call('XADD', history_key, '*', 'receipt', receipt_id, 'event', event, 'by', by, 'at_ms', whole(now_ms), ...)
end
