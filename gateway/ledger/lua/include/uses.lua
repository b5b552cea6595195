-- A grant's budget is counted: it carries `uses` requests until `expires_ms`. A hold takes one use in the step that places
-- it, a void gives it back, and a cost that comes after a void takes it again. So `used` is always the number of requests
-- that are open or were billed. A connection's budget has none of these fields, and none of this happens to it.
local function has_ended(budget_key, uses, used, now_ms)
  return used + 0 >= uses + 0 or now_ms >= redis.call('HGET', budget_key, 'expires_ms') + 0
end
