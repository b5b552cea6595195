-- A grant's budget is counted: it carries `uses` requests until `expires_ms`. A hold takes one use in the step that places
-- it, a void gives it back, and a cost that comes after a void takes it again. So `used` is always the number of requests
-- that are open or were billed. A connection's budget has none of these fields, and none of this happens to it.
local function has_ended(budget_key, uses, used, now_ms)
  return used + 0 >= uses + 0 or now_ms >= redis.call('HGET', budget_key, 'expires_ms') + 0
end

-- Drops the funding key of a grant that has ended and has no open hold: each open hold has the key sealed into it.
-- Returns how many ms it has left; 0 when it has ended and a hold is open, -1 when nothing is left to do.
local function end_uses(budget_key, due_key, now_ms)
  local state, uses, used, expires_ms = unpack(redis.call('HMGET', budget_key, 'state', 'uses', 'used', 'expires_ms'))
  if not uses then return -1 end
  if state == 'active' and not has_ended(budget_key, uses, used, now_ms) then return expires_ms - now_ms end
  if redis.call('ZCARD', due_key) > 0 then return 0 end
  redis.call('HDEL', budget_key, 'funding', 'funding_refused', 'funding_trial_ms')
  return -1
end

-- A request that was in this state is settled with that status.
local function settle_use(state, status, keep_ms, budget_key, due_key, days_key, ledger_key)
  local was_taken, is_taken = state == 'open' or state == 'estimated', status ~= 'void'
  if was_taken ~= is_taken then redis.call('HINCRBY', budget_key, 'used', is_taken and 1 or -1) end
  end_uses(budget_key, due_key, (clock()))
  -- What is left of a grant goes with its ledger.
  for _, key in ipairs({budget_key, days_key, ledger_key}) do redis.call('PEXPIRE', key, keep_ms) end
end
