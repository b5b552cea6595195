/** The window that goes to OpenRouter and comes back. It posts what came back once, tells the popup, and closes. */
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
  // The code must not stay in the history or in the address bar.
  history.replaceState(null, '', '/fund/callback')
  const { attempt } = await ask('/fund/finish', code ? { state, code } : { state, error: 'denied' }, meta('csrf'))
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
;(isStart ? start() : finish()).catch((/** @type {unknown} */ refused) => {
  const known = refused instanceof Refusal ? refused : new Refusal('That did not work. Start again.', 'unknown')
  if (!isStart) tell('')
  screen(known.reason === 'offline' ? 'offline' : 'funding', { message: known.message, ...(isStart && { retry: () => location.reload() }) })
})
