/**
 * The browser SDK and its window, played by a hand-written browser on a clock of its own: what a server, a window or
 * a payer may do, and that every call comes to an end. Real windows are tested in tests/browser.
 */
import assert from 'node:assert/strict'
import { beforeEach, mock, test } from 'node:test'

const { createWattfare } = await import('../../sdk/js/client.js')

const KEY = 'pk_live_appaaaaaaaaaaaaaaaa'
const API = 'https://api.example'
const CONSENT = 'https://budget.example'
const CONNECTED = { connected: true, limits: { monthlyUsd: 5 }, usage: { monthlyUsd: 1 }, remainingUsd: 4 }
const SESSION = `e30.${Buffer.from(JSON.stringify({ exp: 9e9 })).toString('base64url')}.c2ln`

/** What the tests look into: windows that were opened, calls that were made, and how calls are answered. */
let browser

function newBrowser() {
  const target = new EventTarget()
  const store = new Map()
  const page = new URL('https://app.example/notes')
  const found = { target, opened: [], asked: [], store, page, reply: async () => json(200, { state: 'unknown' }) }
  found.left = new Promise((resolve) => (found.assign = resolve))
  found.message = (child, data, origin = CONSENT) =>
    target.dispatchEvent(Object.assign(new Event('message'), { source: child, origin, data }))
  Object.assign(globalThis, {
    window: { open: () => openWindow(found) },
    document: Object.assign(new EventTarget(), { visibilityState: 'visible' }),
    location: { get href() { return found.page.href }, assign: found.assign },
    history: { state: null, replaceState: (_state, _title, url) => (found.page = new URL(url)) },
    sessionStorage: {
      getItem: (name) => store.get(name) ?? null,
      setItem: (name, value) => void store.set(name, value),
      removeItem: (name) => void store.delete(name),
    },
    addEventListener: target.addEventListener.bind(target),
    crossOriginIsolated: false,
    screenX: 0, screenY: 0, outerWidth: 1000, outerHeight: 800,
    fetch: async (url, init = {}) => {
      if (init.method === 'HEAD') return new Response(null)
      found.asked.push({ url: String(url), ...init })
      return found.reply(String(url), init)
    },
  })
  return found
}

function openWindow(found) {
  const child = {
    closed: false, url: '', posted: [],
    document: { documentElement: { style: {} }, body: {} },
    location: { replace: (url) => (child.url = url) },
    focus: () => (child.focused = true),
    close: () => (child.closed = true),
    postMessage: (data, to) => child.posted.push({ data, to }),
  }
  found.opened.push(child)
  return child
}

const json = (status, body) => new Response(JSON.stringify(body), { status })
const refusal = (status, code) => json(status, { error: { code, message: `It is ${code}.` } })
const create = (more) => createWattfare({ publishableKey: KEY, session: () => SESSION, baseURL: API, consentURL: CONSENT, ...more })
const nonceOf = (child) => new URLSearchParams(new URL(child.url).hash.slice(1)).get('n')

/** Lets what is due at this moment happen: promises, and timers of 0 ms. */
const settle = () => new Promise((resolve) => setImmediate(() => setImmediate(resolve)))

/** Passes `ms` in steps, as a browser would; returns what `promise` came to by then, or undefined. */
async function pass(ms, promise) {
  let outcome
  promise?.then((value) => (outcome = { value }), (error) => (outcome = { error }))
  await settle()
  for (let step = 0; step < ms && !outcome; step += 100) {
    mock.timers.tick(100)
    await settle()
  }
  return outcome
}

beforeEach(() => {
  mock.timers.reset()
  mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'], now: 1_000_000 })
  browser = newBrowser()
})

/** Opens a window, lets it get to the consent page and greet. */
async function opened(call) {
  const promise = call()
  await settle()
  const child = browser.opened.at(-1)
  browser.message(child, { ns: 'wattfare', v: 1, type: 'hello', nonce: nonceOf(child) })
  return { promise, child, nonce: nonceOf(child) }
}

const hang = () => new Promise(() => {})
const REPLIES = {
  'is not reached': () => Promise.reject(new TypeError('Failed to fetch')),
  'never answers': hang,
  'is busy': async () => refusal(429, 'rate_limited'),
  'is away': async () => refusal(503, 'unavailable'),
  'refuses the origin': async () => refusal(401, 'auth'),
  'has a bug': async () => refusal(500, 'unknown'),
  'answers no JSON': async () => new Response('<p>Sign in to the Wi-Fi'),
  'answers null': async () => json(200, null),
  'knows no attempt': async () => json(200, { state: 'unknown' }),
  'still waits': async () => json(200, { state: 'pending' }),
  'says something new': async () => json(200, { state: 'thinking' }),
  'says yes, and no more after that': async (url) => (url.includes('/attempts/') ? json(200, { state: 'approved' }) : hang()),
}
const CALLS = { connect: (wattfare) => wattfare.connect(), requestGrant: (wattfare) => wattfare.requestGrant({ requests: 3 }) }

for (const [name, call] of Object.entries(CALLS))
  for (const [what, reply] of Object.entries(REPLIES))
    test(`${name}() ends within five seconds after closing when the server ${what}`, async () => {
      browser.reply = reply
      const { promise, child } = await opened(() => call(create()))
      child.closed = true
      const outcome = await pass(5000, promise)
      assert.ok(outcome, 'it hangs')
      if (outcome.error) assert.match(outcome.error.name, /^Wattfare\w*Error$/)
      else assert.ok(outcome.value.connected === false || outcome.value.grantToken === null)
    })

test('a server that hung before the window closed holds nothing up', async () => {
  browser.reply = hang
  const { promise, child } = await opened(() => create().connect())
  await pass(11_000)
  assert.equal(browser.asked.length, 1)
  child.closed = true
  const { error } = await pass(5000, promise)
  assert.equal(error.code, 'network')
})

test('a refusal of the origin is told in words, not as a lost network', async () => {
  browser.reply = async () => refusal(401, 'auth')
  const { promise, child } = await opened(() => create().connect())
  child.closed = true
  const { error } = await pass(1000, promise)
  assert.deepEqual([error.code, error.status, error.message], ['auth', 401, 'It is auth.'])
})

test('an approval that the window did not tell is found at the server', async () => {
  browser.reply = async () => json(200, { state: 'approved', status: CONNECTED })
  const { promise, child } = await opened(() => create().connect())
  child.closed = true
  assert.deepEqual((await pass(1000, promise)).value, { ...CONNECTED })
})

test('a second click soon after closing opens a new window, and each call has its own end', async () => {
  browser.reply = async () => json(200, { state: 'pending' })
  const wattfare = create()
  const first = await opened(() => wattfare.connect())
  first.child.closed = true
  const second = await opened(() => wattfare.connect())
  assert.equal(browser.opened.length, 2)
  assert.deepEqual(await pass(5000, first.promise), { value: { connected: false, limits: null, usage: { monthlyUsd: 0 }, remainingUsd: 0, reason: 'closed' } })
  browser.message(second.child, { ns: 'wattfare', v: 1, type: 'result', nonce: second.nonce, outcome: 'approved', status: CONNECTED })
  assert.equal((await pass(0, second.promise)).value.connected, true)
  assert.notEqual(first.nonce, second.nonce)
})

test('while the window is open a second click brings it to the front', async () => {
  const wattfare = create()
  const { promise, child } = await opened(() => wattfare.connect())
  assert.equal(wattfare.connect(), promise)
  assert.ok(child.focused)
  assert.equal(browser.opened.length, 1)
})

test('the fault that the window showed is the reason', async () => {
  const { promise, child, nonce } = await opened(() => create().connect())
  browser.message(child, { ns: 'wattfare', v: 1, type: 'fault', nonce, reason: 'cooldown' })
  browser.reply = async () => refusal(401, 'auth')
  child.closed = true
  assert.equal((await pass(5000, promise)).value.reason, 'cooldown')
})

test('a fault that was mended is not the reason, and a yes after it counts', async () => {
  const mended = await opened(() => create().connect())
  for (const reason of ['offline', ''])
    browser.message(mended.child, { ns: 'wattfare', v: 1, type: 'fault', nonce: mended.nonce, reason })
  mended.child.closed = true
  assert.equal((await pass(5000, mended.promise)).value.reason, 'closed')
  const allowed = await opened(() => create().connect())
  browser.message(allowed.child, { ns: 'wattfare', v: 1, type: 'fault', nonce: allowed.nonce, reason: 'offline' })
  browser.reply = async () => json(200, { state: 'approved', status: CONNECTED })
  allowed.child.closed = true
  assert.equal((await pass(5000, allowed.promise)).value.connected, true)
})

test('a fault of another window or origin is not heard', async () => {
  const { promise, child, nonce } = await opened(() => create().connect())
  const fault = { ns: 'wattfare', v: 1, type: 'fault', nonce, reason: 'forged' }
  browser.message({}, fault)
  browser.message(child, fault, 'https://evil.example')
  browser.message(child, { ...fault, nonce: 'other' })
  child.closed = true
  assert.equal((await pass(5000, promise)).value.reason, 'closed')
})

test('a grant that was not given says why', async () => {
  const { promise, child, nonce } = await opened(() => create().requestGrant({ requests: 3 }))
  browser.message(child, { ns: 'wattfare', v: 1, type: 'fault', nonce, reason: 'origin' })
  child.closed = true
  const { value } = await pass(5000, promise)
  assert.deepEqual(value, { grantToken: null, expiresAt: null, reason: 'origin' })
})

test('a grant waits for its token, which the server never tells, and is lost with its window', async () => {
  browser.reply = async () => json(200, { state: 'approved', expiresAt: 9e9 })
  const { promise, child, nonce } = await opened(() => createWattfare({ publishableKey: KEY, baseURL: API, consentURL: CONSENT }).requestGrant({ requests: 3 }))
  assert.equal(await pass(30_000, promise), undefined)
  assert.ok(browser.asked.every(({ headers }) => headers.authorization === `Bearer ${KEY}`))
  browser.message(child, { ns: 'wattfare', v: 1, type: 'result', nonce, outcome: 'approved', grantToken: 'gr_live_x', expiresAt: 9e9 })
  assert.deepEqual((await pass(100, promise)).value, { grantToken: 'gr_live_x', expiresAt: 9e9 })
  const lost = await opened(() => create().requestGrant({ requests: 3 }))
  lost.child.closed = true
  assert.equal((await pass(5000, lost.promise)).error.code, 'grant_invalid')
})

test('without a session only grants can be asked for', async () => {
  const wattfare = createWattfare({ publishableKey: KEY, baseURL: API })
  await assert.rejects(wattfare.status(), { code: 'invalid_request', message: /session/ })
  const before = browser.opened.length
  await assert.rejects(wattfare.connect(), { code: 'invalid_request', message: /session/ })
  assert.equal(browser.opened.length, before)
})

test('the session token goes to the consent origin by message, and stands in no address', async () => {
  const { child, nonce } = await opened(() => create().connect())
  assert.ok(!child.url.includes(SESSION) && !new URLSearchParams(new URL(child.url).hash.slice(1)).has('s'))
  assert.deepEqual(child.posted, [{ data: { ns: 'wattfare', v: 1, type: 'opener', nonce, session: SESSION }, to: CONSENT }])
  browser.message({ ...child }, { ns: 'wattfare', v: 1, type: 'hello', nonce })
  browser.message(child, { ns: 'wattfare', v: 1, type: 'hello', nonce }, 'https://evil.example')
  browser.message(child, { ns: 'wattfare', v: 1, type: 'hello', nonce: 'other' })
  assert.equal(child.posted.length, 1)
  const grant = await opened(() => create().requestGrant({ requests: 1 }))
  assert.equal(grant.child.posted[0].data.session, undefined)
})

test('arguments that are missing or wrong fail at once, in words, before any window', async () => {
  const made = { publishableKey: KEY, session: '/t' }
  assert.throws(() => createWattfare(), { name: 'WattfareAuthError', message: /pk_/ })
  for (const session of [null, '', 7, {}])
    assert.throws(() => createWattfare({ publishableKey: KEY, session }), { code: 'invalid_request', message: /session/ })
  for (const [name, value] of [['baseURL', ''], ['baseURL', '/api'], ['baseURL', 7], ['consentURL', 'budget.example'], ['consentURL', 'ftp://x']])
    assert.throws(() => createWattfare({ ...made, [name]: value }), { code: 'invalid_request', message: new RegExp(name) })
  const wattfare = create()
  for (const wrong of [undefined, null, {}, { requests: 0 }, { requests: 1.5 }, { requests: '3' }, { requests: 1, maxUsd: 0 }, { requests: 1, maxUsd: NaN }])
    await assert.rejects(wattfare.requestGrant(wrong), { code: 'invalid_request', message: /requests/ })
  assert.equal(browser.opened.length, 0)
})

/** Comes back to the page, as the consent page would send it. */
async function back(query) {
  browser.page = new URL(`https://app.example/notes?${query}`)
  return create().resume()
}

test('a code that was left in the address does no harm to a connect by redirect', async () => {
  browser.page = new URL('https://app.example/notes?tab=1&wattfare_attempt=old&wattfare_code=old#end')
  const wattfare = create()
  await assert.rejects(wattfare.resume(), { code: 'invalid_request' })
  assert.equal(browser.page.href, 'https://app.example/notes?tab=1#end')
  wattfare.connect({ mode: 'redirect' })
  const asked = new URLSearchParams(new URL(await browser.left).hash.slice(1))
  assert.equal(asked.get('r'), 'https://app.example/notes?tab=1')
  const stored = browser.store.get(`wattfare:${asked.get('n')}`)
  browser.reply = async () => json(200, { state: 'approved', status: CONNECTED })
  const found = await back(`tab=1&wattfare_attempt=old&wattfare_code=old&wattfare_attempt=${asked.get('n')}&wattfare_code=new`)
  assert.equal(found.connected, true)
  assert.equal(JSON.parse(browser.asked.at(-1).body).code, 'new')
  assert.equal(browser.page.href, 'https://app.example/notes?tab=1#end')
  browser.store.set(`wattfare:${asked.get('n')}`, stored)
  const denied = await back(`wattfare_code=old&wattfare_attempt=${asked.get('n')}&wattfare_error=denied`)
  assert.equal(denied.reason, 'denied')
  assert.equal(await back('wattfare_code=old'), null)
})

test('a redirect comes back to the page that the app names', async () => {
  create().connect({ mode: 'redirect', returnURL: '/budget/done#part' })
  const asked = new URLSearchParams(new URL(await browser.left).hash.slice(1))
  assert.deepEqual([asked.get('r'), asked.get('s'), asked.get('m')], ['https://app.example/budget/done', SESSION, 'redirect'])
})
