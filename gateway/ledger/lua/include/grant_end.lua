-- include: event
-- include: uses
-- Deletes the funding key of a grant that has ended and has no open hold, and writes the event. Until then a use may be
-- returned. Returns the ms until the expiry; 0 if it has ended and a hold is open; -1 if nothing is left to do.
local function end_uses(budget_key, due_key, events_key, now_ms)
  local state, uses, used, expires_ms, cap_nano, spent_nano = unpack(redis.call('HMGET', budget_key, 'state', 'uses', 'used',
    'expires_ms', 'cap_nano', 'window_nano'))
  if not uses then return -1 end
  if state == 'active' and not has_ended(budget_key, uses, used, now_ms) then return expires_ms - now_ms end
  if redis.call('ZCARD', due_key) > 0 then return 0 end
  if redis.call('HDEL', budget_key, 'funding') == 1 then
    write_grant_end(events_key, used + 0 >= uses + 0 and 'used_up' or 'expired', uses, used, cap_nano, spent_nano)
    redis.call('HSET', budget_key, 'unlisted_events', '1')
  end
  redis.call('HDEL', budget_key, 'funding_refused', 'funding_trial_ms')
  return -1
end

-- Counts the settlement of a request: `state` before, `status` after. Returns whether the grant has finally ended.
local function settle_use(state, status, keep_ms, budget_key, due_key, days_key, ledger_key, events_key)
  local was_taken, is_taken = state == 'open' or state == 'estimated', status ~= 'void'
  if was_taken ~= is_taken then redis.call('HINCRBY', budget_key, 'used', is_taken and 1 or -1) end
  -- include: now
  local has_ended_now = end_uses(budget_key, due_key, events_key, now_ms) == -1
  -- A grant's other keys expire with its ledger.
  for _, key in ipairs({budget_key, days_key, ledger_key}) do redis.call('PEXPIRE', key, keep_ms) end
  return has_ended_now
end
