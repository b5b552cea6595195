-- A request's record: a string of lines, so that it is read and written by one command each. In this order:
--   state, generation_id, ended_by, model
--   admitted: nano, day, admitted_ms, funding_version, code, max_tokens, spent_nano, as written by admission; without a
--     hold code is '', and if only a void is known day and admitted_ms are '' too
--   open:   estimate_nano, attempts, reconcile_ms, funding (sealed bytes, which may contain line ends)
--   closed: cost_nano, overrun_nano, tokens (prompt and completion, separated by a blank), settled_ms, which an entry of
--     the ledger omits because its id is that time
-- A request is marked as sent by the fraction .5 of its time in `due`.
local HOLD = '^([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n(([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n[^\n]*\n[^\n]*)\n'
  .. '([^\n]*)\n([^\n]*)\n([^\n]*)\n(.*)$'
