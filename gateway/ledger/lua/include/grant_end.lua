-- include: event
-- include: uses
-- Drops the funding key of a grant that has ended and has no open hold: each open hold has the key sealed into it.
-- Writes the event in the same step. Returns how many ms it has left; 0 when it has ended and a hold is open, -1 when
-- nothing is left to do.
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

-- A request that was in this state is settled with that status. Returns whether the grant has ended for good.
local function settle_use(state, status, keep_ms, budget_key, due_key, days_key, ledger_key, events_key)
  local was_taken, is_taken = state == 'open' or state == 'estimated', status ~= 'void'
  if was_taken ~= is_taken then redis.call('HINCRBY', budget_key, 'used', is_taken and 1 or -1) end
  local has_ended_now = end_uses(budget_key, due_key, events_key, (clock())) == -1
  -- What is left of a grant goes with its ledger.
  for _, key in ipairs({budget_key, days_key, ledger_key}) do redis.call('PEXPIRE', key, keep_ms) end
  return has_ended_now
end
