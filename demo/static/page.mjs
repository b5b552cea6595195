/** The demo's page: connect, chat, show the remaining budget, and offer a solution for each error. */
import { ask, line } from './talk.mjs'

const config = JSON.parse(element('config').textContent ?? '')
const { createWattfare, toWattfareError } = await import(`${config.consentURL}/sdk/client.js`)
const wattfare = createWattfare({ ...config, session: '/wattfare-session' })

/** Below this a budget is low. */
const LOW_USD = 1
const QUESTIONS = 3
const words = /** @type {HTMLInputElement} */ (element('words'))
const connectButton = /** @type {HTMLButtonElement} */ (element('connect'))
/** The visitor's grant. @type {{grantToken: string, left: number} | null} */
let grant = null

/** @type {Record<string, string>} */
const REASONS = {
  denied: 'You said no. Nothing was connected.',
  closed: 'The window was closed before you decided.',
  expired: 'The request ran out. Try again.',
}

/** For each error code a text, and a button that solves it. @type {Record<string, [string, string, () => void]>} */
const MENDED = {
  not_connected: ['Your budget is no longer connected.', 'Connect AI budget', connect],
  funding_invalid: ['OpenRouter no longer takes your key, or its credit is used up.', 'Reconnect', connect],
  budget_exceeded: ['Your budget for this app is used up.', 'Raise the cap', manage],
  grant_invalid: ['These questions are used up.', 'Connect AI budget', connect],
}

/** @param {string} id */
function element(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id))
}

/** @param {number} usd */
function dollars(usd) {
  return usd > 0 && usd < 0.01 ? 'less than $0.01' : usd.toLocaleString('en', { style: 'currency', currency: 'USD' })
}

function manage() {
  open(config.consentURL, '_blank', 'noopener')
}

function connect() {
  connected(wattfare.connect())
}

/** @param {string} text @param {string} [button] @param {() => void} [action] */
function state(text, button, action) {
  element('state').hidden = !text
  element('said').textContent = text
  const mend = element('mend')
  mend.hidden = !button
  mend.textContent = button ?? ''
  mend.onclick = action ?? null
}

/** @param {any} status */
function show({ connected: isConnected, limits, usage, remainingUsd }) {
  if (isConnected) grant = null
  const mayAsk = isConnected || grant !== null
  for (const id of ['budget', 'disconnect']) element(id).hidden = !isConnected
  for (const id of ['talk', 'ask', 'manage']) element(id).hidden = !mayAsk
  element('states').hidden = !isConnected || !config.isSandbox
  element('welcome').hidden = mayAsk
  words.disabled = false
  state('')
  if (grant) state(`${grant.left} of your questions left.`)
  if (!isConnected) return
  const cap = limits?.monthlyUsd ?? null
  element('left').textContent = remainingUsd === null ? 'Unlimited' : `${dollars(remainingUsd)} left`
  const spent = `${dollars(usage.monthlyUsd)} spent`
  element('cap').textContent = cap === null ? spent : `of ${dollars(cap)} this month, ${spent}`
  const bar = /** @type {HTMLMeterElement} */ (element('bar'))
  bar.hidden = cap === null
  if (cap === null) return
  const low = Math.min(LOW_USD, cap / 5)
  bar.max = cap
  bar.low = low
  bar.value = remainingUsd
  words.disabled = remainingUsd <= 0
  if (remainingUsd <= 0) state(...MENDED.budget_exceeded)
  else if (remainingUsd < low) state(`Only ${dollars(remainingUsd)} left this month.`, 'Raise the cap', manage)
}

/** @param {string} text @param {boolean} [failed] */
function notice(text, failed = false) {
  element('notice').textContent = text
  element('notice').classList.toggle('failed', failed)
}

/** @param {Promise<any>} asked */
async function connected(asked) {
  notice('')
  connectButton.ariaBusy = 'true'
  try {
    const status = await asked
    show(status)
    if (!status.connected) notice(REASONS[status.reason] ?? '')
  } catch (error) {
    const { code, message, retry } = /** @type {any} */ (error)
    notice(code === 'popup_blocked' ? 'Your browser blocked the window. Click once more.' : message, true)
    if (retry) connectButton.onclick = () => connected(retry())
  } finally {
    connectButton.ariaBusy = 'false'
  }
}

async function allowThree() {
  notice('')
  try {
    const { grantToken, reason } = await wattfare.requestGrant({ requests: QUESTIONS, maxUsd: 0.05 })
    if (!grantToken) return notice(REASONS[reason] ?? '')
    grant = { grantToken, left: QUESTIONS }
    show({ connected: false })
  } catch (error) {
    notice(/** @type {Error} */ (error).message, true)
  }
}

/** @param {string} text @param {string} [model] */
async function send(text, model) {
  /** @type {any} */
  let failed = null
  try {
    await ask(text, { model, ...(grant && { grant: grant.grantToken }) })
    if (grant) grant.left -= 1
  } catch (error) {
    failed = toWattfareError(error) ?? error
  }
  show(grant ? { connected: false } : await wattfare.status())
  if (!failed) return
  const [said, button, action] = MENDED[failed.code] ?? [failed.message ?? 'That did not work.']
  // The conversation remains visible even when the connection has ended.
  element('welcome').hidden = true
  element('talk').hidden = false
  if (failed.code in MENDED) state(said, button, action)
  else line(said, 'failed')
}

connectButton.onpointerenter = () => wattfare.prepare().catch(() => {})
connectButton.onclick = connect
element('try').onclick = allowThree
element('disconnect').onclick = () => wattfare.disconnect()
element('manage').setAttribute('href', config.consentURL)
for (const button of /** @type {NodeListOf<HTMLButtonElement>} */ (document.querySelectorAll('[data-model]')))
  button.onclick = () => send('What does this cost?', button.dataset.model)
element('ask').onsubmit = (event) => {
  event.preventDefault()
  const text = words.value
  words.value = ''
  send(text)
}
wattfare.on('change', show)
// The dashboard, in another tab, may have raised, paused or ended it.
document.onvisibilitychange = () => {
  if (!document.hidden && !grant && element('welcome').hidden) wattfare.status().then(show, () => {})
}
const returned = await wattfare.resume().catch((/** @type {Error} */ error) => notice(error.message, true))
if (returned && !returned.connected) notice(REASONS[returned.reason] ?? '')
await wattfare.status().then(show, (/** @type {Error} */ error) => notice(error.message, true))
document.body.dataset.ready = ''
