-- Counts by how much a cost exceeds its hold, and returns that as text. `before`: what was counted of the same request.
-- An estimate that turned out too low was no overrun of the hold: only what exceeds the hold is.
-- Only admission writes a code: what was closed without one had no hold to exceed.
local function count_overrun(budget_key, overrun, before)
  before = before + 0
  if overrun > before then
    if before == 0 then redis.call('HINCRBY', budget_key, 'overruns', 1) end
    redis.call('HINCRBY', budget_key, 'overrun_nano', whole(overrun - before))
  end
  return whole(overrun)
end
