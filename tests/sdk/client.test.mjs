/** The browser SDK outside a browser: keys, addresses, tokens, errors. Windows are tested in tests/browser. */
import assert from 'node:assert/strict'
import { afterEach, test } from 'node:test'

import * as sdk from '../../sdk/js/client.js'

const { createWattfare, toWattfareError, WattfareError } = sdk
const KEY = 'pk_live_appaaaaaaaaaaaaaaaa'
const CONNECTED = { connected: true, limits: { monthlyUsd: 5 }, usage: { monthlyUsd: 1 }, remainingUsd: 4 }
const realFetch = globalThis.fetch

/** A token that ends `seconds` from now. */
function token(seconds, mark = 'x') {
  const claims = { exp: Math.floor(Date.now() / 1000) + seconds, mark }
  return `e30.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.c2ln`
}

/** Answers in turn, and keeps what was asked. An answer is `[status, body]` or an error to throw. */
function fakeFetch(...answers) {
  const asked = []
  globalThis.fetch = async (url, init = {}) => {
    asked.push({ url: String(url), method: init.method ?? 'GET', headers: init.headers ?? {}, body: init.body })
    const answer = answers.shift()
    if (answer instanceof Error) throw answer
    const [status, body] = answer
    return new Response(status === 204 ? null : typeof body === 'string' ? body : JSON.stringify(body), { status })
  }
  return asked
}

afterEach(() => {
  globalThis.fetch = realFetch
})

test('a key that is not publishable throws at once', () => {
  for (const publishableKey of ['sk_live_app_secret', '', undefined, 'PK_live_x'])
    assert.throws(() => createWattfare({ publishableKey, session: '/t' }), { name: 'WattfareAuthError', code: 'auth' })
})

test('every way to write the base URL leads to one address', async () => {
  for (const baseURL of ['https://a.example', 'https://a.example/', 'https://a.example/v1', 'https://a.example/api/v1/']) {
    const asked = fakeFetch([200, CONNECTED])
    await createWattfare({ publishableKey: KEY, session: () => token(600), baseURL }).status()
    assert.equal(asked[0].url, 'https://a.example/api/v1/connections')
  }
})

test('without a base URL it is wattfare.com', async () => {
  const asked = fakeFetch([200, CONNECTED])
  await createWattfare({ publishableKey: KEY, session: () => token(600) }).status()
  assert.equal(asked[0].url, 'https://wattfare.com/api/v1/connections')
})

test('a session URL is posted to, and may answer an object, a JSON string or the token alone', async () => {
  const jwt = token(600)
  for (const body of [{ token: jwt, expiresAt: 1 }, jwt, `${jwt}\n`, JSON.stringify(jwt)]) {
    const asked = fakeFetch([200, body], [200, CONNECTED])
    assert.deepEqual(await createWattfare({ publishableKey: KEY, session: 'https://a.example/t' }).status(), CONNECTED)
    assert.deepEqual([asked[0].method, asked[0].url], ['POST', 'https://a.example/t'])
    assert.equal(asked[1].headers.authorization, `Bearer ${jwt}`)
  }
})

test('a session function may return a token or an object, now or later', async () => {
  const jwt = token(600)
  for (const session of [() => jwt, async () => jwt, () => ({ token: jwt }), async () => ({ token: jwt })]) {
    fakeFetch([200, CONNECTED])
    assert.deepEqual(await createWattfare({ publishableKey: KEY, session }).status(), CONNECTED)
  }
})

test('a token is kept until 30 seconds before it expires', async () => {
  for (const [seconds, times] of [[45, 1], [25, 2]]) {
    let asked = 0
    const session = () => token(seconds, String(++asked))
    fakeFetch([200, CONNECTED], [200, CONNECTED])
    const wattfare = createWattfare({ publishableKey: KEY, session })
    await wattfare.status()
    await wattfare.status()
    assert.equal(asked, times)
  }
})

test('calls at one time share one token', async () => {
  let asked = 0
  fakeFetch([200, CONNECTED], [200, CONNECTED])
  const wattfare = createWattfare({ publishableKey: KEY, session: async () => token(600, String(++asked)) })
  await Promise.all([wattfare.status(), wattfare.status(), wattfare.prepare()])
  assert.equal(asked, 1)
})

test('a token refused before its time is renewed once, and only once', async () => {
  let minted = 0
  const refused = [401, { error: { code: 'auth', message: 'Expired.' } }]
  const create = () => createWattfare({ publishableKey: KEY, session: () => token(600, String(++minted)) })
  fakeFetch(refused, [200, CONNECTED])
  assert.deepEqual(await create().status(), CONNECTED)
  assert.equal(minted, 2)
  const asked = fakeFetch(refused, refused, [200, CONNECTED])
  await assert.rejects(create().status(), { name: 'WattfareAuthError', status: 401 })
  assert.equal(asked.length, 2)
})

test('a session that gives no token is session_failed, with its cause', async () => {
  const failing = [() => 'not a token', () => ({}), () => null, () => 'a.b.c', () => Promise.reject(new Error('no user'))]
  for (const session of failing) {
    fakeFetch()
    const found = await createWattfare({ publishableKey: KEY, session }).status().catch((error) => error)
    assert.equal(found.code, 'session_failed')
    assert.ok(found.cause)
  }
  fakeFetch([401, '<p>Log in'])
  await assert.rejects(createWattfare({ publishableKey: KEY, session: 'https://a.example/t' }).status(), {
    code: 'session_failed',
    status: 401,
  })
})

test('a server that cannot be reached, or answers no JSON, is a typed error', async () => {
  const create = () => createWattfare({ publishableKey: KEY, session: () => token(600) })
  fakeFetch(new TypeError('Failed to fetch'))
  await assert.rejects(create().status(), { name: 'WattfareNetworkError', code: 'network', status: 0 })
  fakeFetch([200, '<p>Sign in to the Wi-Fi'])
  await assert.rejects(create().status(), { code: 'unknown', status: 200 })
  fakeFetch([502, '<p>Bad gateway'])
  await assert.rejects(create().status(), { code: 'unknown', status: 502 })
  fakeFetch([503, { error: { code: 'unavailable', message: 'Later.', retryAfter: 1 } }])
  await assert.rejects(create().status(), { code: 'unavailable', status: 503, message: 'Later.' })
})

test('disconnect deletes the connection and says so to listeners', async () => {
  const asked = fakeFetch([204])
  const wattfare = createWattfare({ publishableKey: KEY, session: () => token(600) })
  const told = []
  const off = wattfare.on('change', (status) => told.push(status))
  assert.equal(await wattfare.disconnect(), undefined)
  assert.equal(asked[0].method, 'DELETE')
  assert.deepEqual(told, [{ connected: false, limits: null, usage: { monthlyUsd: 0 }, remainingUsd: 0 }])
  off()
  fakeFetch([204])
  await wattfare.disconnect()
  assert.equal(told.length, 1)
})

test('on a server it can be imported and made, and windows are refused by name', async () => {
  const wattfare = createWattfare({ publishableKey: KEY, session: '/t' })
  assert.equal(await wattfare.resume(), null)
  await assert.rejects(wattfare.connect(), { code: 'ssr' })
  await assert.rejects(wattfare.requestGrant({ requests: 1 }), { code: 'ssr' })
  await assert.rejects(wattfare.connect({ signal: AbortSignal.abort() }), { code: 'aborted' })
})

test('each code has its class, its name and its envelope', () => {
  const kinds = {
    not_connected: 'WattfareNotConnectedError',
    budget_exceeded: 'WattfareBudgetExceededError',
    funding_invalid: 'WattfareFundingError',
    rate_limited: 'WattfareRateLimitError',
    grant_invalid: 'WattfareGrantError',
    auth: 'WattfareAuthError',
    network: 'WattfareNetworkError',
  }
  for (const [code, name] of Object.entries(kinds)) {
    const error = new WattfareError('why', code, 402)
    assert.equal(error.name, name)
    assert.ok(error instanceof sdk[name] && error instanceof WattfareError && error instanceof Error)
    assert.equal(Object.values(kinds).filter((other) => error instanceof sdk[other]).length, 1)
    assert.equal(new sdk[name]('why').code, code)
    assert.deepEqual(JSON.parse(JSON.stringify(error)), { error: { code, message: 'why' } })
  }
  assert.equal(new WattfareError('why').name, 'WattfareError')
})

test('an error of another copy of this file is recognised', async () => {
  const other = await import('../../sdk/js/client.js?copy')
  const error = new other.WattfareBudgetExceededError('why')
  assert.ok(error instanceof WattfareError && error instanceof sdk.WattfareBudgetExceededError)
  assert.ok(!(error instanceof sdk.WattfareAuthError))
  assert.equal(toWattfareError(error), error)
})

test('the error inside what libraries throw is found', () => {
  const body = { error: { code: 'budget_exceeded', message: 'The cap is spent.', type: 'insufficient_quota' } }
  const wrapped = {
    'AI SDK, APICallError': Object.assign(new Error('x'), { statusCode: 402, responseBody: JSON.stringify(body), data: undefined }),
    'AI SDK, RetryError': Object.assign(new Error('x'), { lastError: { statusCode: 402, responseBody: JSON.stringify(body) } }),
    'OpenAI SDK, APIError': Object.assign(new Error('402 The cap is spent.'), { status: 402, code: 'budget_exceeded', error: body.error }),
    axios: Object.assign(new Error('x'), { code: 'ERR_BAD_REQUEST', response: { status: 402, data: body } }),
    'axios, as text': Object.assign(new Error('x'), { response: { status: 402, data: JSON.stringify(body) } }),
    AggregateError: new AggregateError([new Error('x'), Object.assign(new Error('x'), { status: 402, error: body.error })], 'all failed'),
    'AI SDK, RetryError with errors': Object.assign(new Error('x'), { errors: [null, { statusCode: 402, data: body }] }),
    'a cause': new Error('x', { cause: new WattfareError('The cap is spent.', 'budget_exceeded', 402) }),
  }
  for (const [name, error] of Object.entries(wrapped)) {
    const found = toWattfareError(error)
    assert.deepEqual([found?.code, found?.message, found?.status], ['budget_exceeded', 'The cap is spent.', 402], name)
    assert.ok(sdk.isBudgetExceeded(error) && !sdk.isNotConnected(error))
  }
  assert.equal(toWattfareError(body)?.code, 'budget_exceeded')
  assert.ok(sdk.isNotConnected({ error: { code: 'funding_invalid', message: 'x' } }))
})

test('what is not ours is null', () => {
  const loop = {}
  loop.cause = loop
  loop.errors = [loop, { cause: loop }]
  const foreign = [null, undefined, 'text', '{"broken', 7, loop, new Error('x'), Object.assign(new Error('x'), { code: 'ECONNRESET' })]
  for (const error of [...foreign, { code: 'context_length_exceeded', message: 'x' }, { code: 'auth' }])
    assert.equal(toWattfareError(error), null)
})
