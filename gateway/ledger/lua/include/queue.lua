-- The queue of requests that wait for money of one budget, over all processes: a zset in order of arrival. A member is its
-- process's wake channel, a blank, and the request id. A live process renews one lease for all its waiters (`alive`:
-- channel -> ms); waiters of a dead process are skipped. The budget's field `waiting_ms`, the end of the newest lease, is
-- missing if nobody waits, which saves reading the queue.
-- All in one function, because each function defined by a script costs every run of it.
local function queue_of(budget_key, queue_key, alive_key)
  -- A process renews its lease three times within it; so waiters behind a dead process wait two seconds at most.
  local LEASE_MS = 1500
  -- Over all processes; far above honest use of one budget.
  local MOST_WAITERS = 10000
  -- Waiters of dead processes are removed in batches of this size.
  local PASSED_AT_ONCE = 500
  local queue = {}

  local function forget()
    redis.call('UNLINK', queue_key, alive_key)
    redis.call('HDEL', budget_key, 'waiting_ms')
  end

  -- Stores a waiter's place, and renews the lease of its process. Without renewals both keys expire.
  function queue.keep(waiter, place, now_ms)
    local until_ms = whole(now_ms + LEASE_MS)
    redis.call('ZADD', queue_key, place, waiter)
    redis.call('HSET', alive_key, waiter:match('^%S+'), until_ms)
    redis.call('HSET', budget_key, 'waiting_ms', until_ms)
    redis.call('PEXPIRE', queue_key, 4 * LEASE_MS)
    redis.call('PEXPIRE', alive_key, 4 * LEASE_MS)
    return until_ms
  end

  -- Gives a new waiter the last place and returns it; nil if the queue is full.
  function queue.join(waiter, now_ms)
    if redis.call('ZCARD', queue_key) >= MOST_WAITERS then return nil end
    local place = whole(redis.call('HINCRBY', budget_key, 'arrivals', 1))
    queue.keep(waiter, place, now_ms)
    return place
  end

  -- Returns the first waiter of a live process, and removes dead ones before it; nil if nobody waits.
  function queue.first(now_ms, waiting_ms)
    local lives, many = {}, 1
    while now_ms < tonumber(waiting_ms) do
      local found = redis.call('ZRANGE', queue_key, 0, many - 1)
      if #found == 0 then break end
      for i, waiter in ipairs(found) do
        local channel = waiter:match('^%S+')
        if lives[channel] == nil then
          lives[channel] = now_ms < tonumber(redis.call('HGET', alive_key, channel) or '0')
        end
        if lives[channel] then
          if i > 1 then redis.call('ZREMRANGEBYRANK', queue_key, 0, i - 2) end
          return waiter
        end
      end
      redis.call('ZREMRANGEBYRANK', queue_key, 0, #found - 1)
      many = PASSED_AT_ONCE
    end
    forget()
    return nil
  end

  -- Wakes the first waiter's process to retry its admission.
  function queue.tell_first()
    local first = redis.call('ZRANGE', queue_key, 0, 0)[1]
    if first then
      local channel, id = first:match('^(%S+) (.*)$')
      redis.call('PUBLISH', channel, queue_key .. ' ' .. id)
    end
  end

  -- Wakes every process to retry all its waiters of this budget, after a change of cap or state.
  function queue.tell_all()
    for _, channel in ipairs(redis.call('HKEYS', alive_key)) do redis.call('PUBLISH', channel, queue_key .. ' ') end
  end

  -- Removes a waiter and wakes the then first one, unless `is_all_taken`: no money is left that it could get.
  function queue.leave(waiter, is_all_taken)
    redis.call('ZREM', queue_key, waiter)
    if redis.call('ZCARD', queue_key) == 0 then
      forget()
    elseif not is_all_taken then
      queue.tell_first()
    end
  end

  return queue
end
