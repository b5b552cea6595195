-- include: event
-- Stores the state of the funding key of that version: a refused key is not used until its first trial; a working one is
-- no longer marked as refused. Ignored if the key was replaced since. Returns whether an event was written.
local function note_verdict(budget_key, version, verdict, events_key)
  if (redis.call('HGET', budget_key, 'funding_version') or '0') ~= version then return end
  local trial_ms = verdict:match('^refused (%d+)$')
  if trial_ms then
    local is_news = redis.call('HSETNX', budget_key, 'funding_refused', '1') == 1
    -- include: now
    redis.call('HSET', budget_key, 'funding_trial_ms', now_ms + trial_ms)
    if is_news then
      write_event(events_key, 'funding.invalid')
      redis.call('HSET', budget_key, 'unlisted_events', '1')
    end
    return is_news
  elseif verdict == 'works' then
    redis.call('HDEL', budget_key, 'funding_refused', 'funding_trial_ms')
  end
end
