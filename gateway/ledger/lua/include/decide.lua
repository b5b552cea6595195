-- Decides on a request whose bound may not fit or that has waiters before it (CONTRACT §3, steps 3 to 7). Part of
-- admit.lua, whose KEYS and ARGV it reads. `alone` = cap - spend, `left` = alone - open holds.
-- Returns code, amount (for a queued request its place) and max_tokens.
local function decide(queue, channel, place, terms, left, alone, bound, now_ms, waiting_ms)
  local waiter = channel .. ' ' .. ARGV[1]
  -- A repeat after a lost reply has its hold, and does not wait.
  if redis.call('EXISTS', KEYS[3]) == 1 then return -4, bound or 0, 0 end
  local is_over = place == '-'
  if place ~= '' and not is_over then waiting_ms = queue.keep(waiter, place, now_ms) end
  -- A request whose waiting time has passed skips the queue: those before it have waited as long.
  local first = not is_over and waiting_ms and queue.first(now_ms, waiting_ms)
  local is_its_turn = not first or first == waiter
  -- A process retries its first waiter when woken. If the first waiter of the queue is another one of the same process,
  -- its wake was lost: repeat it.
  if not is_its_turn and place ~= '' and first:match('^%S+') == channel then queue.tell_first() end

  -- Returns `verdict` and the request's place, or `otherwise` if it cannot be queued.
  local function queued(verdict, otherwise)
    if is_over or channel == '' then return otherwise, 0, 0 end
    if place == '' then place = queue.join(waiter, now_ms) or '' end
    if place == '' then return otherwise, 0, 0 end
    return verdict, place, 0
  end

  -- At most one open request of a budget may be beyond its bound, so that a burst cannot overrun the cap.
  local function is_beyond_free()
    local other = redis.call('HGET', KEYS[1], 'beyond')
    return not other or not redis.call('ZSCORE', KEYS[2], other)
  end

  -- Returns how many output tokens an amount affords. The factor prevents one too many by a double's rounding.
  local function affordable(nano, fixed, per_token)
    if per_token <= 0 then return -1 end
    return math.floor((nano - fixed) * (1 - 1e-12) / per_token)
  end

  if is_its_turn and bound and bound <= left then return 0, bound, 0 end
  if not bound then
    if is_its_turn and left > 0 and is_beyond_free() then return 2, left, 0 end
    return queued(-8, -4)
  end
  if terms == '' then
    if not is_its_turn and bound <= alone then return queued(-8, -4) end
    return queued(-7, -7)
  end
  local beyond, total, fixed, per_token, least, usual, bound_fixed, bound_per_token =
    terms:match('^(%S+) (%S+) (%S+) (%S+) (%S*) (%S+) (%S+) (%S+)$')
  total, fixed, per_token = tonumber(total), tonumber(fixed), tonumber(per_token)
  local fewest, is_all_held = tonumber(least), least == '' and beyond == '1'
  local is_carried_alone = total <= alone or is_all_held and fixed <= alone
    or fewest and affordable(alone, fixed, per_token) >= fewest
  if not is_carried_alone then return -3, 0, 0 end
  if not is_its_turn then return queued(-8, -4) end
  local is_free = beyond == '1' and is_beyond_free()
  if is_free and left > 0 and total <= left then return 2, left, 0 end
  if total <= alone then
    local verdict, its_place = queued(-8, 0)
    if verdict == -8 then return verdict, its_place, 0 end
  end
  if is_free and is_all_held and left > 0 and fixed <= left then return 2, left, 0 end
  if fewest then
    bound_fixed, bound_per_token = tonumber(bound_fixed), tonumber(bound_per_token)
    if not is_free then fixed, per_token = bound_fixed, bound_per_token end
    local tokens = math.min(affordable(left, fixed, per_token), tonumber(usual))
    if tokens >= fewest then
      local its_bound = bound_fixed + math.ceil(tokens * bound_per_token)
      if is_free and its_bound > left then return 3, left, tokens end
      return 1, math.min(left, its_bound), tokens
    end
  end
  return queued(-8, -4)
end
