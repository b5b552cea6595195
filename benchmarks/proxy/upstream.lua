-- The answers of the stand-in OpenRouter: a plain one, a stream of 20 chunks, a slow stream that stays open until `release`.
-- Each has a generation id of its own, and all cost the same. One worker serves all, so plain variables count exactly.
local upstream = {}

local COST = "0.0000138"
local CHUNKS = 20
-- A slow stream ends by itself, should nobody release it.
local SLOW_SECONDS = 240
local LOOK_SECONDS = 1

local MODEL = [[{"id":"%s","canonical_slug":"%s","name":"Bench","context_length":1048576,"architecture":{"input_modalities":["text"],]]
  .. [["output_modalities":["text"]},"pricing":{"prompt":"0.00000015","completion":"0.0000006"},"top_provider":]]
  .. [[{"context_length":1048576,"max_completion_tokens":16384,"is_moderated":false},"supported_parameters":["max_tokens"]}]]
local ENVELOPE = [[","provider":"OpenAI","model":"bench/model","created":1760000000,"object":"chat.completion]]
local USAGE = [["usage":{"prompt_tokens":14,"completion_tokens":20,"total_tokens":34,"cost":]] .. COST
  .. [[,"is_byok":false,"prompt_tokens_details":{"cached_tokens":0},"cost_details":{"upstream_inference_cost":null},]]
  .. [["completion_tokens_details":{"reasoning_tokens":0}}]]

local served = {}
local count = 0
local releases = 0

local function next_id()
  count = count + 1
  return string.format("gen-%012d", count)
end

local function event(id, delta, finish, usage)
  return 'data: {"id":"' .. id .. ENVELOPE .. '.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":"' .. delta
    .. '"},"finish_reason":' .. finish .. ',"native_finish_reason":' .. finish .. ',"logprobs":null}]' .. usage .. "}\n\n"
end

local function last_event(id)
  return event(id, "", '"stop"', "," .. USAGE) .. "data: [DONE]\n\n"
end

local function stream(id, is_slow)
  ngx.header["Content-Type"] = "text/event-stream"
  ngx.print(": OPENROUTER PROCESSING\n\n")
  local chunk = event(id, " token", "null", "")
  if is_slow then
    local until_then, before = ngx.now() + SLOW_SECONDS, releases
    ngx.print(chunk)
    ngx.flush(true)
    while releases == before and ngx.now() < until_then do ngx.sleep(LOOK_SECONDS) end
  else
    for _ = 1, CHUNKS do
      ngx.print(chunk)
      ngx.flush(true)
    end
  end
  ngx.print(last_event(id))
end

local function plain(id)
  ngx.header["Content-Type"] = "application/json"
  local body = '{"id":"' .. id .. ENVELOPE .. '","choices":[{"index":0,"logprobs":null,"finish_reason":"stop",'
    .. '"native_finish_reason":"stop","message":{"role":"assistant","content":"Good morning! It is a fine day to measure something.",'
    .. '"refusal":null,"reasoning":null}}],' .. USAGE .. "}"
  ngx.header["Content-Length"] = #body
  ngx.print(body)
end

function upstream.complete()
  ngx.req.read_body()
  local body = ngx.req.get_body_data() or ""
  local key = ngx.var.http_authorization or ""
  served[key] = (served[key] or 0) + 1
  local id = next_id()
  ngx.header["X-Generation-Id"] = id
  -- Both stand before the prompt or behind it, never in the midst of a megabyte.
  local ends = #body > 2048 and body:sub(1, 1024) .. body:sub(-1024) or body
  if ends:find('"stream": ?true') then
    stream(id, ends:find('"bench/slow"', 1, true) ~= nil)
  else
    plain(id)
  end
end

function upstream.models()
  ngx.header["Content-Type"] = "application/json"
  ngx.print('{"data":[' .. MODEL:format("bench/model", "bench/model") .. "," .. MODEL:format("bench/slow", "bench/slow") .. "]}")
end

function upstream.generation()
  ngx.header["Content-Type"] = "application/json"
  ngx.print('{"data":{"id":"' .. (ngx.var.arg_id or "") .. '","total_cost":' .. COST .. ',"model":"bench/model","is_byok":false,'
    .. '"tokens_prompt":14,"tokens_completion":20,"native_tokens_prompt":14,"native_tokens_completion":20}}')
end

function upstream.tell_served()
  for key, times in pairs(served) do ngx.print(times, " ", key, "\n") end
end

function upstream.release()
  releases = releases + 1
end

return upstream
