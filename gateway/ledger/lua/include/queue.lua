-- Who waits for money of one budget, over all processes: a zset in the order of arrival. A member is the channel that its
-- process hears, a blank, and the request's id. A living process renews one lease for all its waiters here (`alive`:
-- channel -> ms); the waiters of a dead one are passed over. The budget has `waiting_ms`, the end of the newest lease, while
-- anybody may wait: where it is missing nobody needs to look.
-- One function, because each that a script defines costs it, also where nobody waits.
local function queue_of(budget_key, queue_key, alive_key)
  -- A process renews it three times as often; whoever comes after a dead one waits two seconds at most.
  local LEASE_MS = 1500
  -- Over all processes: more than wait for one budget are no people.
  local MOST_WAITERS = 10000
  -- A dead process's waiters are dropped in batches of so many, each once.
  local PASSED_AT_ONCE = 500
  local queue = {}

  local function forget()
    redis.call('UNLINK', queue_key, alive_key)
    redis.call('HDEL', budget_key, 'waiting_ms')
  end

  -- Puts a waiter in its place, and renews the lease of its process. What nobody renews any more expires.
  function queue.keep(waiter, place, now_ms)
    local until_ms = whole(now_ms + LEASE_MS)
    redis.call('ZADD', queue_key, place, waiter)
    redis.call('HSET', alive_key, waiter:match('^%S+'), until_ms)
    redis.call('HSET', budget_key, 'waiting_ms', until_ms)
    redis.call('PEXPIRE', queue_key, 4 * LEASE_MS)
    redis.call('PEXPIRE', alive_key, 4 * LEASE_MS)
    return until_ms
  end

  -- Gives a new waiter the last place and returns it; nil where too many wait.
  function queue.join(waiter, now_ms)
    if redis.call('ZCARD', queue_key) >= MOST_WAITERS then return nil end
    local place = whole(redis.call('HINCRBY', budget_key, 'arrivals', 1))
    queue.keep(waiter, place, now_ms)
    return place
  end

  -- Returns who is first of those whose process lives, and drops the dead before it; nil when nobody waits.
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

  -- Has the process of the first waiter ask again for it.
  function queue.tell_first()
    local first = redis.call('ZRANGE', queue_key, 0, 0)[1]
    if first then
      local channel, id = first:match('^(%S+) (.*)$')
      redis.call('PUBLISH', channel, queue_key .. ' ' .. id)
    end
  end

  -- Has every process ask again for all its waiters here: what may be spent was changed.
  function queue.tell_all()
    for _, channel in ipairs(redis.call('HKEYS', alive_key)) do redis.call('PUBLISH', channel, queue_key .. ' ') end
  end

  -- Takes a waiter out. Whoever is first then is told, unless `is_all_taken`: nothing is left that it could have.
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
