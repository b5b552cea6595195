-- Notes what an answer told of the funding key of that version: a refused key rests until its first trial, one that works
-- rests no more. Of a key that was replaced since nothing is noted.
local function note_verdict(budget_key, version, verdict)
  if (redis.call('HGET', budget_key, 'funding_version') or '0') ~= version then return end
  local trial_ms = verdict:match('^refused (%d+)$')
  if trial_ms then
    redis.call('HSET', budget_key, 'funding_refused', '1', 'funding_trial_ms', clock() + trial_ms)
  elseif verdict == 'works' then
    redis.call('HDEL', budget_key, 'funding_refused', 'funding_trial_ms')
  end
end
