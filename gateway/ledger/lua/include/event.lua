-- What an app is told of by webhook is written in the very step that it tells of, to a stream beside the budget.
-- A thousand are more than one payer causes in a month; an app that lowers a cap over and over must not fill Redis. After
-- a month without a new one nobody asks for them again.
local function write_event(events_key, event, ...)
  redis.call('XADD', events_key, 'MAXLEN', '~', 1000, '*', 'event', event, ...)
  redis.call('PEXPIRE', events_key, 2592000000)
end

-- Writes that a grant carries nothing more, and why: 'used_up', 'expired', 'revoked'. `uses`, … as its budget has them.
local function write_grant_end(events_key, reason, uses, used, cap_nano, spent_nano)
  write_event(events_key, 'grant.ended', 'reason', reason, 'uses', uses, 'used', used or '0', 'cap_nano', cap_nano or '',
    'spent_nano', spent_nano or '0')
end
