-- Writes an event for the app's webhooks, in the step that makes the change it reports. One payer causes fewer than a
-- thousand a month; the bound keeps an app that lowers a cap over and over from filling Redis. The stream expires a month
-- after its last event, which bounds how far back a replay goes.
local function write_event(events_key, event, ...)
  redis.call('XADD', events_key, 'MAXLEN', '~', 1000, '*', 'event', event, ...)
  redis.call('PEXPIRE', events_key, 2592000000)
end

-- Writes that a grant has ended; `reason`: 'used_up', 'expired', 'revoked'. `uses`, … as in its budget.
local function write_grant_end(events_key, reason, uses, used, cap_nano, spent_nano)
  write_event(events_key, 'grant.ended', 'reason', reason, 'uses', uses, 'used', used or '0', 'cap_nano', cap_nano or '',
    'spent_nano', spent_nano or '0')
end
