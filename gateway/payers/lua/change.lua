--[[ change: pause, resume, revoke a budget, or set its cap, and write the receipt. Spend and open holds do not
change; requests that wait for money are woken to retry.
KEYS[1] budget   hash
KEYS[2] history  stream
KEYS[3] queue    zset    requests that wait for money of this budget
KEYS[4] alive    hash
KEYS[5] events   stream  events for webhooks
ARGV[1] verb       'pause', 'resume', 'revoke', 'close' (revoke because the whole app was closed), 'lower' (the cap, never
                   raises it), 'cap', 'bar' (void approvals that are not carried out yet; the budget itself is unchanged)
ARGV[2] cap_nano   for 'lower' and 'cap'
ARGV[3] by         'payer', 'app', 'operator'
RETURNS 1 done, 0 nothing to change, -1 not connected, -2 it would raise the cap
REPEAT returns 0 or 1 and changes nothing more, except that each 'bar' voids the approvals made before it. ]]
-- include: window
-- include: queue
-- include: receipt
-- include: event
local budget_key, history_key, verb, by = KEYS[1], KEYS[2], ARGV[1], ARGV[3]
local fields = redis.call('HMGET', budget_key, 'state', 'cap_nano', 'waiting_ms', 'uses', 'used', 'window_nano')
local state, cap = fields[1], tonumber(fields[2] or '')
-- include: now
local function tell_waiters()
  if fields[3] then queue_of(budget_key, KEYS[3], KEYS[4]).tell_all() end
  return 1
end
-- A grant has no updates: it can only be ended.
local function write_update(what, its_state, its_cap)
  if fields[4] then return end
  write_event(KEYS[5], 'connection.updated', 'change', what, 'state', its_state, 'cap_nano', its_cap or '', 'by', by)
end
if verb == 'bar' then
  redis.call('HINCRBY', budget_key, 'revocations', 1)
  return 1
end
if verb == 'revoke' or verb == 'close' then
  if not state or state == 'revoked' then return 0 end
  redis.call('HINCRBY', budget_key, 'revocations', 1)
  redis.call('HSET', budget_key, 'state', 'revoked', 'revoked_ms', whole(now_ms))
  local has_lived = redis.call('HDEL', budget_key, 'funding') == 1
  redis.call('HDEL', budget_key, 'funding_refused', 'funding_trial_ms')
  write_receipt(history_key, '', verb == 'close' and 'closed' or 'revoked', by, now_ms)
  if not fields[4] then
    write_event(KEYS[5], 'connection.revoked', 'by', by)
  elseif has_lived then
    -- A grant without its key has ended before, and its event was written then.
    write_grant_end(KEYS[5], 'revoked', fields[4], fields[5], fields[2], fields[6])
  end
  return tell_waiters()
end
if state ~= 'active' and state ~= 'paused' then return -1 end
if verb == 'pause' or verb == 'resume' then
  local wanted = verb == 'pause' and 'paused' or 'active'
  if state == wanted then return 0 end
  redis.call('HSET', budget_key, 'state', wanted)
  write_receipt(history_key, '', verb .. 'd', by, now_ms)
  write_update(verb .. 'd', wanted, fields[2])
  return tell_waiters()
end
local wanted = tonumber(ARGV[2])
if verb == 'lower' and cap and wanted > cap then return -2 end
if wanted == cap then return 0 end
redis.call('HSET', budget_key, 'cap_nano', whole(wanted))
-- Thresholds refer to the new cap.
redis.call('HDEL', budget_key, 'next_threshold_nano', 'threshold_days')
write_update('cap', state, whole(wanted))
write_receipt(history_key, '', 'cap', by, now_ms, 'cap_nano', whole(wanted), 'before_nano', fields[2] or '')
return tell_waiters()
