// `wattfare/server` from the packed package against a running gateway: $GATEWAY, $SECRET, $TEST_SECRET; `ada` is connected.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import Anthropic from '@anthropic-ai/sdk'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { createOpenRouter } from '@openrouter/ai-sdk-provider'
import { generateText, isStepCount, Output, RetryError, streamText, tool } from 'ai'
import OpenAI from 'openai'
import {
  Wattfare,
  WattfareAuthError,
  WattfareBudgetExceededError,
  WattfareError,
  WattfareGrantError,
  WattfareNetworkError,
  WattfareNotConnectedError,
  isBudgetExceeded,
  isNotConnected,
  toWattfareError,
} from 'wattfare/server'
import { z } from 'zod'

const { GATEWAY, SECRET, TEST_SECRET } = process.env
const MODEL = 'openai/gpt-4o-mini'
const wattfare = new Wattfare({ secretKey: SECRET, baseURL: GATEWAY })
const ada = wattfare.user('ada')
const prompt = 'Say hello to the world.'
const weather = tool({
  description: 'The weather',
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `sunny in ${city || 'town'}`,
})

test('a streamed answer comes in pieces, with what it cost', async () => {
  const pieces = []
  const answer = streamText({ model: ada.model(MODEL), prompt })
  for await (const piece of answer.textStream) pieces.push(piece)
  assert.equal(pieces.join(''), prompt)
  assert.ok(pieces.length > 1)
  const { wattfare: said } = await answer.providerMetadata
  assert.ok(said.costUsd > 0)
  assert.ok((await answer.usage).inputTokens > 0)
})

test('toTextStreamResponse answers a page', async () => {
  const response = streamText({ model: ada.model(MODEL), prompt }).toTextStreamResponse()
  assert.equal(await response.text(), prompt)
})

test('a whole answer has its cost, and the budget shrinks by it', async () => {
  const before = await ada.status()
  const { text, providerMetadata } = await generateText({ model: ada.model('sandbox/price-0.25'), prompt })
  const after = await ada.status()
  assert.equal(text, prompt)
  assert.equal(providerMetadata.wattfare.costUsd, 0.25)
  assert.ok(Math.abs(before.remainingUsd - after.remainingUsd - 0.25) < 1e-9)
})

test('tools are called, and their results answered', async () => {
  const { text, steps } = await generateText({
    model: ada.model(MODEL),
    prompt: 'Use weather please.',
    tools: { weather },
    stopWhen: isStepCount(2),
  })
  assert.equal(steps[0].toolCalls[0].toolName, 'weather')
  assert.match(text, /sunny/)
})

test('structured output follows its schema', async () => {
  const schema = z.object({ name: z.string(), age: z.number() })
  const { output } = await generateText({ model: ada.model(MODEL), prompt, output: Output.object({ schema }) })
  assert.ok(schema.safeParse(output).success)
})

test('an abort ends the stream', async () => {
  const stop = new AbortController()
  const answer = streamText({ model: ada.model('sandbox/slow-20'), prompt: prompt.repeat(50), abortSignal: stop.signal })
  const parts = []
  for await (const part of answer.stream ?? answer.fullStream) {
    parts.push(part.type)
    if (part.type === 'text-delta') stop.abort()
  }
  assert.equal(parts.at(-1), 'abort')
})

test('an unknown user is a value for status and an error for a model', async () => {
  const nobody = wattfare.user('nobody')
  assert.deepEqual(await nobody.status(), { connected: false, limits: null, usage: { monthlyUsd: 0 }, remainingUsd: 0 })
  await assert.rejects(generateText({ model: nobody.model(MODEL), prompt }), (error) => {
    assert.ok(isNotConnected(error) && !isBudgetExceeded(error))
    const found = toWattfareError(error)
    assert.ok(found instanceof WattfareNotConnectedError && found instanceof WattfareError)
    assert.deepEqual([found.code, found.status], ['not_connected', 402])
    assert.equal(Response.json(found.toJSON(), { status: found.status || 502 }).status, 402)
    return true
  })
})

test('a stream that is refused says so to onError', async () => {
  const seen = []
  const answer = streamText({ model: wattfare.user('nobody').model(MODEL), prompt, onError: ({ error }) => seen.push(error) })
  await answer.consumeStream()
  assert.ok(isNotConnected(seen[0]))
})

test('an empty budget is told apart, also through the wrappers of others', async () => {
  const poor = wattfare.user('poor')
  const error = await generateText({ model: poor.model(MODEL), prompt }).catch((caught) => caught)
  assert.ok(toWattfareError(error) instanceof WattfareBudgetExceededError)
  const retried = new RetryError({ message: 'three times', reason: 'maxRetriesExceeded', errors: [new Error('x'), error] })
  const byOpenAI = await new OpenAI(poor.openaiOptions()).chat.completions
    .create({ model: MODEL, messages: [{ role: 'user', content: prompt }] })
    .catch((caught) => caught)
  const byAnthropic = await new Anthropic({ apiKey: SECRET, baseURL: GATEWAY, defaultHeaders: { 'x-wattfare-user': 'poor' } }).messages
    .create({ model: MODEL, max_tokens: 64, messages: [{ role: 'user', content: prompt }] })
    .catch((caught) => caught)
  const envelope = { error: { code: 'budget_exceeded', message: 'x' } }
  const byAxios = Object.assign(new Error('402'), { response: { status: 402, data: envelope } })
  for (const wrapped of [retried, new AggregateError([error]), new Error('x', { cause: error }), byOpenAI, byAnthropic, byAxios])
    assert.ok(isBudgetExceeded(wrapped), String(wrapped))
  assert.ok(!isBudgetExceeded(new Error('budget_exceeded')))
  const { error: said } = toWattfareError(byOpenAI).toJSON()
  assert.ok(said.requestId.startsWith('req_') && said.manageUrl.startsWith('http') && said.leftUsd >= 0)
})

test('OpenAI’s and Anthropic’s own libraries answer too', async () => {
  const openai = new OpenAI(ada.openaiOptions())
  const messages = [{ role: 'user', content: prompt }]
  const answer = await openai.chat.completions.create({ model: MODEL, messages })
  assert.equal(answer.choices[0].message.content, prompt)
  const anthropic = new Anthropic({ apiKey: SECRET, baseURL: GATEWAY, defaultHeaders: { 'x-wattfare-user': 'ada' } })
  const said = await anthropic.messages.create({ model: 'anthropic/claude-sonnet-4', max_tokens: 64, messages })
  assert.equal(said.content[0].text, prompt)
})

test('other providers of the AI SDK need a base URL and a header', async () => {
  const options = { baseURL: `${GATEWAY}/api/v1`, apiKey: SECRET, headers: { 'x-wattfare-user': 'ada' } }
  for (const provider of [createOpenRouter(options), createOpenAICompatible({ name: 'wattfare', ...options })]) {
    const { text } = await generateText({ model: provider(MODEL), prompt })
    assert.equal(text, prompt)
  }
})

test('an answer that may be billed is not asked for again', async () => {
  let asked = 0
  const refused = { error: { code: 'upstream', message: 'may be billed', type: 'api_error', requestId: 'req_1' } }
  const counting = async () => {
    asked += 1
    return Response.json(refused, { status: 502, headers: { 'x-should-retry': 'false' } })
  }
  const model = new Wattfare({ secretKey: SECRET, baseURL: GATEWAY, fetch: counting }).user('ada').model(MODEL)
  await assert.rejects(generateText({ model, prompt }), (error) => toWattfareError(error)?.code === 'upstream')
  assert.equal(asked, 1)
})

test('a grant pays for its requests and says what is left', async () => {
  const grant = wattfare.grant(process.env.GRANT)
  assert.equal((await generateText({ model: grant.model(MODEL), prompt })).text, prompt)
  const { requestsRemaining, requests, active } = await grant.status()
  assert.deepEqual([requestsRemaining, requests, active], [1, 2, true])
  const answer = await new OpenAI(grant.openaiOptions()).chat.completions.create({ model: MODEL, messages: [{ role: 'user', content: prompt }] })
  assert.equal(answer.choices[0].message.content, prompt)
  const error = await generateText({ model: grant.model(MODEL), prompt }).catch((caught) => caught)
  assert.ok(toWattfareError(error) instanceof WattfareGrantError)
})

test('sessions are made for whoever is signed in', async () => {
  const { token, expiresAt } = await wattfare.createSession('ada', { requestLimit: { monthlyUsd: 20 }, userLabel: 'ada@example.com' })
  assert.equal(token.split('.').length, 3)
  assert.ok(expiresAt > Date.now() / 1000)
  const handler = wattfare.sessionHandler((request, { user }) => user ?? request.headers.get('x-user'), {
    requestLimit: { monthlyUsd: 5 },
  })
  const post = (headers = {}) => new Request('https://app.example/session', { method: 'POST', headers })
  const answer = await handler(post(), { user: 'ada' })
  assert.equal(answer.status, 200)
  assert.equal(answer.headers.get('cache-control'), 'no-store')
  const claims = JSON.parse(atob((await answer.json()).token.split('.')[1]))
  assert.deepEqual([claims.appUserId, claims.limits], ['ada', { monthlyUsd: 5 }])
  const nobody = await handler(post(), {})
  assert.deepEqual([nobody.status, (await nobody.json()).error.code], [401, 'auth'])
  assert.equal((await handler(new Request('https://app.example/session'), {})).status, 405)
  await assert.rejects(wattfare.sessionHandler(() => Promise.reject(new TypeError('bug')))(post()), TypeError)
})

test('a user of a test key connects, is read and disconnects', async () => {
  const trial = new Wattfare({ secretKey: TEST_SECRET, baseURL: `${GATEWAY}/v1/` })
  const { token } = await trial.createSession('Zoë')
  const approved = await fetch(`${GATEWAY}/v1/connections`, { method: 'POST', headers: { authorization: `Bearer ${token}` } })
  assert.equal(approved.status, 200)
  const zoe = trial.user('Zoë')
  assert.equal((await zoe.status()).connected, true)
  assert.equal((await generateText({ model: zoe.model(MODEL), prompt })).text, prompt)
  await zoe.disconnect()
  assert.equal((await zoe.status()).connected, false)
})

test('what cannot work says so at once', async () => {
  for (const secretKey of [undefined, '', 'pk_live_x']) assert.throws(() => new Wattfare({ secretKey }), WattfareAuthError)
  assert.throws(() => wattfare.user(7), /appUserId/)
  assert.throws(() => wattfare.user('%C3%A9').model(MODEL), /header/)
  const away = new Wattfare({ secretKey: SECRET, baseURL: 'http://127.0.0.1:9' })
  await assert.rejects(away.user('ada').status(), WattfareNetworkError)
  const wrong = new Wattfare({ secretKey: 'sk_live_x_y', baseURL: GATEWAY })
  await assert.rejects(wrong.user('ada').status(), (error) => error instanceof WattfareAuthError && error.status === 401)
  assert.ok(!JSON.stringify(wattfare).includes('sk_'))
})
