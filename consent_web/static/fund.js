/** The window that goes to OpenRouter and returns: it posts the code once, notifies the popup, and closes. */
import { h, show } from './dom.js'
import { screen } from './screens.js'
import { ask, Refusal } from './wire.js'

/** @param {string} name */
const meta = (name) => document.querySelector(`meta[name=${name}]`)?.getAttribute('content') ?? ''
const ATTEMPT = /^[0-9a-f]{64}$/
const DASHBOARD = '/funding'

async function start() {
  const given = location.hash.slice(1)
  const attempt = ATTEMPT.test(given) ? given : ''
  const { url } = await ask('/fund/start', attempt ? { attempt } : {}, meta('csrf'))
  location.replace(url)
}

async function finish() {
  const state = location.pathname.split('/').pop() ?? ''
  const given = new URLSearchParams(location.search)
  const code = given.get('code')
  // Remove the code from the history and the address bar.
  history.replaceState(null, '', '/fund/callback')
  try {
    done(await ask('/fund/finish', code ? { state, code } : { state, error: 'denied' }, meta('csrf')))
  } catch (refused) {
    if (!(refused instanceof Refusal) || refused.reason !== 'other_wallet') throw refused
    choose(state, refused)
  }
}

/** @type {Record<string, string>} */
const WAYS = { keep: 'Keep this budget, pay with the new key', switch: 'Use the other account’s own budget' }

/**
 * Ask which of two wallets to use, both named by their keys.
 * @param {string} state
 * @param {Refusal} refused
 */
function choose(state, refused) {
  const take = (/** @type {string} */ way) => ask('/fund/choose', { state, way }, meta('csrf')).then(done).catch(failed)
  show(h('section', { class: 'state', 'data-state': 'other_wallet' },
    h('h1', {}, 'Which budget do you mean?'),
    h('p', { role: 'status' }, refused.message),
    h('div', { class: 'stack' },
      ...refused.ways.map((way) => h('button', { type: 'button', onclick: () => void take(way) }, WAYS[way] ?? way)),
      h('button', { type: 'button', onclick: () => window.close() }, 'Change nothing'))))
}

/** @param {{attempt: string}} answer */
function done({ attempt }) {
  if (!attempt) return location.replace(DASHBOARD)
  tell(attempt)
  screen('answered_funding')
  window.close()
}

/** @param {string} attempt */
function tell(attempt) {
  const channel = new BroadcastChannel('wattfare-funding')
  channel.postMessage(attempt)
  channel.close()
}

const isStart = meta('step') === 'start'

/** @param {unknown} refused */
function failed(refused) {
  const known = refused instanceof Refusal ? refused : new Refusal('That did not work. Start again.', 'unknown')
  if (!isStart) tell('')
  screen(known.reason === 'offline' ? 'offline' : 'funding', { message: known.message, ...(isStart && { retry: () => location.reload() }) })
}
;(isStart ? start() : finish()).catch(failed)
