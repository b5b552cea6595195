-- The load: chat completions of many users in turn. Each answer is compared with the one that is due.
-- Told by the environment: BENCH_USERS, BENCH_FIRST, BENCH_KEY, BENCH_BODY (file), BENCH_ANSWER (file, empty: only the status counts),
-- BENCH_UNTIL (unix time after which no request leaves), BENCH_CONNECTIONS, and BENCH_RESTING (a file that appears once all
-- of them rest after that, so that wrk can be ended without breaking off a request).
local ffi = require("ffi")
ffi.cdef([[
  struct bench_time { long seconds; long micros; };
  int gettimeofday(struct bench_time *now, void *zone);
]])

-- The first of the answer's parts that differ between requests, and no other, is the generation id, always of one length.
local TAIL_BYTES = 200
local CACHED_BYTES = 32 * 1024 * 1024
local NEVER_MS = 3600 * 1000

local function option(name)
  local value = os.getenv("BENCH_" .. name)
  return value or error("BENCH_" .. name .. " is missing")
end

local function contents(path)
  if path == "" then return nil end
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local users = tonumber(option("USERS"))
local connections, resting = tonumber(option("CONNECTIONS")), 0
local ends_at = tonumber(option("UNTIL"))
local due = contents(option("ANSWER"))
local tail = due and due:sub(-TAIL_BYTES)
local clock = ffi.new("struct bench_time")
local number, requests = tonumber(option("FIRST")), {}

-- Read by `done` from outside the thread, hence global.
asked, answered, wrong, first_wrong = 0, 0, 0, ""

wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer " .. option("KEY")
wrk.body = contents(option("BODY"))
local is_cached = #wrk.body * users < CACHED_BYTES

function delay()
  ffi.C.gettimeofday(clock, nil)
  if tonumber(clock.seconds) + tonumber(clock.micros) / 1e6 >= ends_at then
    resting = resting + 1
    if resting == connections then assert(io.open(option("RESTING"), "w")):close() end
    return NEVER_MS
  end
  asked = asked + 1
  return 0
end

-- A request is its two halves with the user's number between them: made anew each time, it would cost more than its answer.
local before, after

local function make_halves()
  local mark = "u#"
  wrk.headers["x-wattfare-user"] = mark
  local text = wrk.format()
  local first, last = text:find(mark, 1, true)
  before, after = text:sub(1, first), text:sub(last + 1)
end

function request()
  number = (number + 1) % users
  local text = requests[number]
  if not text then
    if not before then make_halves() end
    text = before .. number .. after
    if is_cached then requests[number] = text end
  end
  return text
end

function response(status, _, body)
  answered = answered + 1
  local is_due = status == 200 and (not due or (#body == #due and body:sub(-TAIL_BYTES) == tail))
  if not is_due then
    wrong = wrong + 1
    if first_wrong == "" then first_wrong = status .. " " .. body:sub(1, 300):gsub("%s+", " ") end
  end
end

local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
end

function done(summary, _, _)
  local failed = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  local totals = { asked = 0, answered = 0, wrong = 0 }
  local example = ""
  for _, thread in ipairs(threads) do
    for name in pairs(totals) do totals[name] = totals[name] + thread:get(name) end
    if example == "" then example = thread:get("first_wrong") end
  end
  print(string.format("BENCH asked=%d answered=%d wrong=%d failed=%d example=%s",
    totals.asked, totals.answered, totals.wrong, failed, example))
end
