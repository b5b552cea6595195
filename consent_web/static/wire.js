/** The popup's communication with its server and with the page that opened it. */
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
 * @property {string} [notice] why the question is shown again
 * @property {boolean} hasPasskey whether the wallet has a usable passkey
 * @property {string} returnUrl in redirect mode, the whole URL
 * @property {{want: string, sentence: string, account: string, can: string, cannot: string, stop: string, month: string}} text
 * @property {CapChoice | null} cap
 * @property {{lifeSeconds: number, button: string, said: string} | null} grant
 * @property {{cap: string, text: string} | null} current
 * @property {string} others a sentence on this app's caps for the payer's other accounts
 * @property {string} alsoPays a sentence on the apps that a new key would pay for immediately
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

/** An error response of our server, or a network failure (`reason` is `offline`). */
export class Refusal extends Error {
  /** @param {string} message @param {string} reason @param {string[]} [ways] the possible answers to it */
  constructor(message, reason, ways = []) {
    super(message)
    this.reason = reason
    this.ways = ways
  }
}

/**
 * Call our server: POST with a body, else GET.
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
 * Read the app's request from the fragment and remove it at once: it may contain the session token.
 * @returns {Asked | null}
 */
export function takeFragment() {
  const given = new URLSearchParams(location.hash.slice(1))
  if (location.hash) history.replaceState(history.state, '', location.pathname)
  if (given.get('v') !== '1' || !given.get('n')) return null
  const text = (/** @type {string} */ name) => given.get(name) ?? ''
  // NaN becomes null in JSON, which the server refuses.
  const grant = { requests: Number(text('r')), ...(given.has('u') && { maxUsd: Number(text('u')) }) }
  return {
    key: text('k'), session: text('s'), nonce: text('n'), type: text('t'),
    mode: text('m') === 'redirect' ? 'redirect' : 'popup', returnUrl: text('r'), challenge: text('c'), grant,
  }
}

/** The page that answered the handshake; only it receives faults. */
let answered = { origin: '', nonce: '' }

/**
 * Post a question to the opener until it answers with our nonce. Resolves to its origin as reported by the browser, and
 * the session token if the answer contains it; to empty strings when there is no answer in time.
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
 * Report to the answering page which fault the payer sees, or with an empty `reason` that it is resolved.
 * @param {string} reason
 */
export function reportFault(reason) {
  const { origin, nonce } = answered
  if (origin && window.opener) window.opener.postMessage({ ns: NS, v: 1, type: 'fault', nonce, reason }, origin)
}

/**
 * Report the outcome to the verified page. A page that has navigated to another origin does not receive it.
 * @param {{nonce: string, origin: string, result?: Attempt['result']}} attempt
 */
export function report({ nonce, origin, result }) {
  if (!result || !window.opener) return
  window.opener.postMessage({ ns: NS, v: 1, type: 'result', nonce, ...result }, origin)
}
