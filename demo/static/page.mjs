/** The demo's page: connect, chat, see what is left. Everything it does with Wattfare stands here. */
const config = JSON.parse(element('config').textContent ?? '')
const { createWattfare, toWattfareError, isNotConnected } = await import(`${config.consentURL}/sdk/client.js`)
const wattfare = createWattfare({ ...config, session: '/wattfare-token' })

const words = /** @type {HTMLInputElement} */ (element('words'))
const connectButton = /** @type {HTMLButtonElement} */ (element('connect'))
/** @type {{role: string, content: string}[]} */
const messages = []

/** @type {Record<string, string>} */
const REASONS = {
  denied: 'You said no. Nothing was connected.',
  closed: 'The window was closed before you decided.',
  expired: 'The request ran out. Try again.',
}

/** @param {string} id */
function element(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id))
}

/** @param {number} usd */
function dollars(usd) {
  return usd > 0 && usd < 0.01 ? 'less than $0.01' : usd.toLocaleString('en', { style: 'currency', currency: 'USD' })
}

/** @param {any} status */
function show({ connected, limits, usage, remainingUsd }) {
  for (const id of ['budget', 'disconnect', 'talk', 'ask']) element(id).hidden = !connected
  element('welcome').hidden = connected
  if (!connected) return
  const cap = limits?.monthlyUsd ?? null
  element('left').textContent = remainingUsd === null ? 'Unlimited' : `${dollars(remainingUsd)} left`
  const spent = `${dollars(usage.monthlyUsd)} spent`
  element('cap').textContent = cap === null ? spent : `of ${dollars(cap)} this month, ${spent}`
  const bar = /** @type {HTMLProgressElement} */ (element('bar'))
  bar.value = cap ? usage.monthlyUsd / cap : 0
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

/** @param {string} text @param {string} kind */
function line(text, kind) {
  const item = document.createElement('li')
  item.className = kind
  item.textContent = text
  element('talk').append(item)
  item.scrollIntoView({ block: 'end' })
  return item
}

/**
 * Read the answer's stream and add each piece of text to `item`.
 * @param {Response} response
 * @param {HTMLElement} item
 */
async function read(response, item) {
  const reader = /** @type {ReadableStream<BufferSource>} */ (response.body).pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    const events = (rest + piece.value).split('\n')
    rest = events.pop() ?? ''
    for (const event of events) {
      if (!event.startsWith('data: {')) continue
      const { choices, error } = JSON.parse(event.slice(6))
      if (error) throw new Error(error.message)
      item.append(choices?.[0]?.delta?.content ?? '')
    }
  }
}

/** @param {string} text */
async function ask(text) {
  messages.push({ role: 'user', content: text })
  line(text, 'mine')
  const item = line('', 'theirs')
  try {
    const response = await fetch('/api/chat', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ messages }),
    })
    if (!response.ok) throw toWattfareError(await response.json()) ?? new Error(`The demo answered ${response.status}.`)
    await read(response, item)
    messages.push({ role: 'assistant', content: item.textContent ?? '' })
  } catch (error) {
    item.textContent = /** @type {Error} */ (error).message
    item.className = 'failed'
    messages.pop()
    if (isNotConnected(error)) notice('Your budget is no longer connected.', true)
  }
  show(await wattfare.status())
}

connectButton.onpointerenter = () => wattfare.prepare().catch(() => {})
connectButton.onclick = () => connected(wattfare.connect())
element('disconnect').onclick = () => wattfare.disconnect()
element('ask').onsubmit = (event) => {
  event.preventDefault()
  const text = words.value
  words.value = ''
  ask(text)
}
wattfare.on('change', show)
const returned = await wattfare.resume().catch((/** @type {Error} */ error) => notice(error.message, true))
if (returned && !returned.connected) notice(REASONS[returned.reason] ?? '')
wattfare.status().then(show, (/** @type {Error} */ error) => notice(error.message, true))
