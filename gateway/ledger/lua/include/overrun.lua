-- Counts the excess of a cost over its hold, and returns it as text. `before`: the excess counted earlier for the same
-- request. An excess over an earlier estimate, but within the hold, does not count. A record without a code had no hold.
local function count_overrun(budget_key, overrun, before)
  before = before + 0
  if overrun > before then
    if before == 0 then redis.call('HINCRBY', budget_key, 'overruns', 1) end
    redis.call('HINCRBY', budget_key, 'overrun_nano', whole(overrun - before))
  end
  return whole(overrun)
end
