-- One request as Redis keeps it: a string of lines, so that it is read and written by one command each. In this order:
--   state, generation_id, ended_by, model
--   admitted: nano, day, admitted_ms, funding_version, code, max_tokens, spent_nano, as admission wrote them; without a
--     hold code is '', and where nothing but a void is known day and admitted_ms are too
--   while it is open:  estimate_nano, attempts, reconcile_ms, funding (sealed bytes: they may contain line ends)
--   once it is closed: cost_nano, overrun_nano, tokens (prompt and completion, a blank between), settled_ms,
--     which an entry of the ledger does not repeat: it is the entry's id
-- Whether it was sent stands in the fraction of its time in `due`: .5 it was.
local HOLD = '^([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n(([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n[^\n]*\n[^\n]*)\n'
  .. '([^\n]*)\n([^\n]*)\n([^\n]*)\n(.*)$'
