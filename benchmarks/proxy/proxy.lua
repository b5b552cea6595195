-- Admission and settlement in nginx: one script in Redis before a request, one after it, over kept connections.
-- What it leaves out is what makes the gateway's own: no ledger, no window of days, no sealed key, no recovery.
local proxy = {}

local CAP_NANO = "1000000000000000"
local HOLD_NANO = "100000"
local POOL = { pool_size = 512 }
local IDLE_MS = 60000

local function script(name)
  local file = assert(io.open(script_folder .. "/" .. name .. ".lua"))
  local text = file:read("*a")
  file:close()
  return text
end

local scripts = { admit = script("admit"), settle = script("settle") }
local loaded = {}

local function pack(words)
  local parts = { "*" .. #words }
  for _, word in ipairs(words) do
    word = tostring(word)
    parts[#parts + 1] = "$" .. #word
    parts[#parts + 1] = word
  end
  parts[#parts + 1] = ""
  return table.concat(parts, "\r\n")
end

local function read(socket)
  local line = assert(socket:receive("*l"))
  local kind, rest = line:sub(1, 1), line:sub(2)
  if kind == "$" then
    local size = tonumber(rest)
    if size < 0 then return nil end
    local text = assert(socket:receive(size + 2))
    return text:sub(1, size)
  elseif kind == "*" then
    local replies = {}
    for place = 1, tonumber(rest) do replies[place] = read(socket) end
    return replies
  elseif kind == "-" then
    error("Redis: " .. rest)
  end
  return kind == ":" and tonumber(rest) or rest
end

local function call(words)
  local socket = ngx.socket.tcp()
  socket:settimeout(5000)
  assert(socket:connect("127.0.0.1", redis_port, POOL))
  assert(socket:send(pack(words)))
  local reply = read(socket)
  socket:setkeepalive(IDLE_MS, POOL.pool_size)
  return reply
end

local function run(name, ...)
  if not loaded[name] then loaded[name] = call({ "SCRIPT", "LOAD", scripts[name] }) end
  return call({ "EVALSHA", loaded[name], 2, ... })
end

function proxy.admit()
  local context = ngx.ctx
  local user = ngx.var.http_x_wattfare_user or "nobody"
  context.budget, context.holds = "bench:{" .. user .. "}:budget", "bench:{" .. user .. "}:holds"
  context.id = ngx.var.request_id
  if run("admit", context.budget, context.holds, CAP_NANO, HOLD_NANO, context.id) ~= 1 then return ngx.exit(402) end
end

function proxy.watch()
  local piece = ngx.arg[1]
  if piece and piece:find('"usage"', 1, true) then ngx.ctx.cost = piece:match('"cost":([%d.eE-]+)') end
end

local function settle_later(_, budget, holds, id, cost)
  run("settle", budget, holds, id, string.format("%.0f", cost * 1e9))
end

function proxy.settle()
  local context = ngx.ctx
  if context.id then
    assert(ngx.timer.at(0, settle_later, context.budget, context.holds, context.id, tonumber(context.cost or 0)))
  end
end

return proxy
