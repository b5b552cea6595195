/** What the popup talks to: its own server, and the page that opened it. */
import { secret } from './secret.js'

/** @typedef {{usd: number, text: string, short: string}} Choice */
/** @typedef {{chosen: Choice, choices: Choice[], leastUsd: number, mostUsd: number, range: string, suggestion: string}} CapChoice */
/** @typedef {{last4: string, source: string, left: string, leftUsd: number | null, warning: string, works: boolean}} Funding */
/**
 * @typedef {object} Attempt
 * @property {string} id
 * @property {string} csrf
 * @property {string} nonce
 * @property {string} state
 * @property {number} leftSeconds
 * @property {boolean} mayExtend
 * @property {string} mode
 * @property {{name: string, initial: string}} app
 * @property {string} origin
 * @property {boolean} isRedirect
 * @property {string} [notice] why the question is asked again
 * @property {boolean} hasPasskey whether a passkey proves who pays
 * @property {string} returnUrl the whole address, in redirect mode
 * @property {{want: string, sentence: string, account: string, can: string, cannot: string, stop: string, month: string}} text
 * @property {CapChoice | null} cap
 * @property {{lifeSeconds: number, button: string, said: string} | null} grant
 * @property {{cap: string, text: string} | null} current
 * @property {string} others what this app has from the same payer for other accounts
 * @property {string} alsoPays what a key of this payer pays for at once
 * @property {string} fault
 * @property {Funding | null} funding
 * @property {boolean} isLostByLeaving
 * @property {{outcome: string, status?: unknown, grantToken?: string, expiresAt?: number}} [result]
 * @property {string} [redirect]
 */
/** @typedef {{key: string, session: string, nonce: string, type: string, mode: string, returnUrl: string, challenge: string, grant: {requests: number, maxUsd?: number}}} Asked */

const NS = 'wattfare'
const HELLO_MS = 250
const HELLO_FOR_MS = 5000

/** A refusal of our server, or of the network (`reason` is `offline`). */
export class Refusal extends Error {
  /** @param {string} message @param {string} reason @param {string[]} [ways] what may be answered to it */
  constructor(message, reason, ways = []) {
    super(message)
    this.reason = reason
    this.ways = ways
  }
}

/**
 * Ask our server. GET without a body.
 * @param {string} path
 * @param {Record<string, unknown>} [body]
 * @param {string} [csrf]
 * @returns {Promise<any>}
 */
export async function ask(path, body, csrf = '') {
  let answer
  try {
    answer = await fetch(path, {
      method: body ? 'POST' : 'GET',
      headers: { accept: 'application/json', 'x-wattfare-secret': secret(), ...(body && { 'content-type': 'application/json', 'x-wattfare-csrf': csrf }) },
      ...(body && { body: JSON.stringify(body) }),
      credentials: 'same-origin',
      redirect: 'error',
      cache: 'no-store',
    })
  } catch {
    throw new Refusal('You seem to be offline. Nothing was changed.', 'offline')
  }
  const found = await answer.json().catch(() => ({}))
  if (answer.ok) return found
  const error = found.error ?? {}
  throw new Refusal(String(error.message ?? 'That did not work. Try again.'), String(error.detail ?? error.reason ?? error.code ?? 'unknown'), Array.isArray(error.ways) ? error.ways : [])
}

/**
 * Read what the app asks from the fragment and remove it at once: it may hold the session token.
 * @returns {Asked | null}
 */
export function takeFragment() {
  const given = new URLSearchParams(location.hash.slice(1))
  if (location.hash) history.replaceState(history.state, '', location.pathname)
  if (given.get('v') !== '1' || !given.get('n')) return null
  const text = (/** @type {string} */ name) => given.get(name) ?? ''
  // What is no number becomes null in JSON, which the server refuses.
  const grant = { requests: Number(text('r')), ...(given.has('u') && { maxUsd: Number(text('u')) }) }
  return {
    key: text('k'), session: text('s'), nonce: text('n'), type: text('t'),
    mode: text('m') === 'redirect' ? 'redirect' : 'popup', returnUrl: text('r'), challenge: text('c'), grant,
  }
}

/** The page that answered: it alone hears of faults. */
let answered = { origin: '', nonce: '' }

/**
 * Ask "who opened me?" until the opener answers with our nonce. Resolves to its origin as the browser reports it, and
 * the session token if the answer brings it; to empty strings when nobody answers in time.
 * @param {string} nonce
 * @returns {Promise<{origin: string, session: string}>}
 */
export function findOpener(nonce) {
  const opener = /** @type {Window} */ (window.opener)
  return new Promise((resolve) => {
    const hello = () => opener.postMessage({ ns: NS, v: 1, type: 'hello', nonce }, '*')
    const timer = setInterval(hello, HELLO_MS)
    const end = (/** @type {string} */ origin, /** @type {unknown} */ session) => {
      clearInterval(timer)
      clearTimeout(limit)
      removeEventListener('message', hear)
      answered = { origin, nonce }
      resolve({ origin, session: typeof session === 'string' ? session : '' })
    }
    const hear = (/** @type {MessageEvent} */ event) => {
      if (event.source !== opener || event.origin === 'null' || !isAnswer(event.data, nonce)) return
      end(event.origin, event.data.session)
    }
    const limit = setTimeout(() => end('', ''), HELLO_FOR_MS)
    addEventListener('message', hear)
    hello()
  })
}

/** @param {unknown} message @param {string} nonce */
function isAnswer(message, nonce) {
  if (typeof message !== 'object' || message === null || Array.isArray(message)) return false
  const said = /** @type {Record<string, unknown>} */ (message)
  return said.ns === NS && said.v === 1 && said.type === 'opener' && said.nonce === nonce
}

/**
 * Tell the page that answered which fault the payer is shown, or with an empty `reason` that it is mended.
 * @param {string} reason
 */
export function reportFault(reason) {
  const { origin, nonce } = answered
  if (origin && window.opener) window.opener.postMessage({ ns: NS, v: 1, type: 'fault', nonce, reason }, origin)
}

/**
 * Tell the verified page how it ended. A page that moved to another origin does not get it.
 * @param {{nonce: string, origin: string, result?: Attempt['result']}} attempt
 */
export function report({ nonce, origin, result }) {
  if (!result || !window.opener) return
  window.opener.postMessage({ ns: NS, v: 1, type: 'result', nonce, ...result }, origin)
}
