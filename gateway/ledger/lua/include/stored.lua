-- include: hold
-- Reads the hold that settle.lua closes, into its locals, and completes `ending`. Returns from the script if the first
-- result stands.
local status, new_id, ended_by, model = ending:match('^(.*)\n(.*)\n(.*)\n(.*)$')
local old_id, _, asked
hold = call('GET', hold_key)
state, old_id, _, asked, admitted, nano, day, admitted_ms, version, code, cost_before, overrun_before = (hold or ''):match(HOLD)
assert(state or not hold, 'a hold that cannot be read')
call('ZREM', KEYS[3], ARGV[1])  -- Also without a hold: an id that stayed in `due` would be claimed for ever.
if state == 'settled' or hold and state ~= 'open' and status ~= 'settled' then return '0 ' .. state .. ' ' .. cost_before .. ' ' .. overrun_before end
if status == 'void' then cost_nano = '0' end
if hold then
  ending = status .. '\n' .. (new_id ~= '' and new_id or old_id) .. '\n' .. ended_by .. '\n' .. (model ~= '' and model or asked)
elseif status == 'void' then
  -- The admission may still be in flight (after its deadline): store a void, so that it cannot place a hold.
  -- include: now
  call('SET', hold_key, 'void\n' .. new_id .. '\n' .. ended_by .. '\n\n0\n\n\n0\n\n0\n0\n0\n0\n \n' .. whole(now_ms), 'PX', keep_ms)
  return '1 0'
end
