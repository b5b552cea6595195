-- A grant's budget has a number of `uses` until `expires_ms`. Placing a hold takes one use, a void gives it back, and a
-- cost stated after a void takes it again, each in the same script. So `used` is always the number of requests that are
-- open or were billed. A connection's budget has none of these fields.
local function has_ended(budget_key, uses, used, now_ms)
  return used + 0 >= uses + 0 or now_ms >= redis.call('HGET', budget_key, 'expires_ms') + 0
end
