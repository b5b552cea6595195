// The app's page. `outcomes` holds each call's end in order, `events` what `on` told, `heard` every message it got,
// `opened` the handle of each window it opened.
globalThis.outcomes = []
globalThis.promises = []
globalThis.events = []
globalThis.heard = []
globalThis.opened = []
addEventListener('message', ({ origin, data }) => heard.push({ origin, data }))
const open = window.open
window.open = (...given) => {
  const child = open.apply(window, given)
  opened.push(child)
  return child
}

const { createWattfare } = await import('/client.js')
const { session, options, connect } = JSON.parse(document.getElementById('config').textContent)
globalThis.wattfare = createWattfare({ ...(session && { session }), ...options })
for (const name of ['change', 'open', 'close', 'error'])
  wattfare.on(name, (told) => events.push([name, told?.code ?? told?.connected ?? told?.type]))

function keep(promise, extra) {
  promises.push(promise)
  promise.then(
    (found) => found && outcomes.push({ ...found, ...extra }),
    (error) => {
      globalThis.failed = error
      outcomes.push({ error: error.code, name: error.name, retries: !!error.retry, ...extra })
    },
  )
}
keep(wattfare.resume(), { resumed: true })

const stop = new AbortController()
const on = (id, action) => document.getElementById(id).addEventListener('click', action)
on('connect', () => keep(wattfare.connect({ ...connect, signal: stop.signal })))
on('grant', () => keep(wattfare.requestGrant({ requests: 3, maxUsd: 0.5 })))
on('retry', () => keep(failed.retry()))
on('abort', () => stop.abort())
globalThis.ready = true
