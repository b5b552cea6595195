/** Step 1 of 2: funding. OpenRouter opens in a separate window, so that the popup keeps its opener. */
import { apart, h, say, show } from './dom.js'
import { pasteForm } from './key_field.js'
import { canUse, prove } from './passkeys.js'
import { head } from './review.js'
import { ask, Refusal } from './wire.js'

/** @typedef {import('./wire.js').Attempt} Attempt */

const POLL_MS = 2000

/** @type {Record<string, string>} */
const FAULTS = {
  denied: 'OpenRouter did not give a key: you said no there, or closed it.',
  code: 'OpenRouter’s answer came too late or was used before. Start again.',
  key_refused: 'OpenRouter does not accept that key. It may be deleted, disabled or not whole.',
  key_management: 'That key can do more than pay. Use an ordinary one.',
  proof: 'To allow more than before, prove that you are who pays: with OpenRouter, or with the key you first paid with.',
  away: 'OpenRouter did not answer. Try again in a moment.',
}

/** @param {string} fault */
export function faultText(fault) {
  return fault && fault !== 'done' ? (FAULTS[fault] ?? 'That did not work. Try again.') : ''
}

/**
 * Show the funding step. `go` is called when the wallet is funded, `deny` when the payer declines.
 * @param {Attempt} attempt
 * @param {{go: () => void, deny: () => void, back: (() => void) | null}} ways
 */
export function askFunding(attempt, ways) {
  const isProof = attempt.fault === 'proof'
  const fault = h('p', { class: 'note bad', role: 'alert', hidden: true })
  const openrouter = h('a', { class: 'button act whole', href: `/fund/start#${attempt.id}`, target: '_blank', rel: 'noopener noreferrer', onclick: (event) => {
    event.preventDefault()
    window.open(`/fund/start#${attempt.id}`, '_blank', 'noopener,popup,width=480,height=720')
    waitForFunding(attempt, ways)
  } }, 'Continue with OpenRouter')
  const form = pasteForm({
    help: ['Kept encrypted and never shown again.', isProof ? '' : attempt.alsoPays].join(' '),
    save: (key, way) => ask(`/consent/attempts/${attempt.id}/key`, { key, ...(way && { way }) }, attempt.csrf),
    saved: ways.go,
  })
  form.hidden = true
  const passkey = attempt.hasPasskey && canUse && h('button', { type: 'button', class: 'whole', onclick: () => {
    say(fault, '')
    prove(attempt.csrf).then(ways.go, (refused) => say(fault, refused instanceof Refusal ? refused.message : faultText('unknown')))
  } }, 'Use your passkey')
  const toggle = h('button', { type: 'button', class: 'whole', onclick: () => {
    form.hidden = false
    toggle.hidden = true
    // Only one primary button at a time.
    openrouter.classList.remove('act')
    form.querySelector('input')?.focus()
  } }, 'Paste an OpenRouter key')
  show(
    head(attempt),
    h('div', { class: 'stack tight' },
      !ways.back && h('p', { class: 'small soft' }, 'Step 1 of 2'),
      h('h1', {}, isProof ? 'Prove that it is you' : ways.back ? 'Change how you pay' : attempt.text.want.replace('{app}', () => apart(attempt.app.name))),
      h('p', { class: 'small soft' }, attempt.text.account)),
    fault,
    h('section', { class: 'stack tight', 'aria-label': 'How to pay' },
      !ways.back && h('p', {}, 'First choose how to pay. Nothing is allowed yet; you set the amount next.'),
      openrouter,
      h('p', { class: 'small soft' }, 'OpenRouter sells access to AI models. You pay it directly for what is used; apps never see your key.'),
      passkey, toggle, form),
    h('div', { class: 'last' },
      h('button', { type: 'button', class: 'quiet whole', onclick: ways.back ?? ways.deny }, ways.back ? 'Back' : 'Cancel')),
  )
  say(fault, faultText(attempt.fault))
}

/**
 * Wait while OpenRouter's window is open: for its message, and polling in case it cannot send one.
 * @param {Attempt} attempt
 * @param {{go: () => void, deny: () => void, back: (() => void) | null}} ways
 */
function waitForFunding(attempt, ways) {
  const channel = new BroadcastChannel('wattfare-funding')
  const end = () => {
    clearInterval(timer)
    channel.close()
  }
  const look = async () => {
    const now = /** @type {Attempt | null} */ (await ask(`/consent/attempts/${attempt.id}`).catch(() => null))
    if (!now || !now.fault || !timer) return
    end()
    if (now.fault === 'done') ways.go()
    else askFunding(now, ways)
  }
  const timer = setInterval(look, POLL_MS)
  channel.onmessage = (event) => {
    // Empty: some window's funding failed, for an unknown attempt: ask the server about ours.
    if (event.data === attempt.id || event.data === '') void look()
  }
  show(
    head(attempt),
    h('section', { class: 'state', 'data-state': 'funding-elsewhere' },
      h('div', { class: 'wait', 'aria-hidden': 'true' }),
      h('h1', {}, 'Finish at OpenRouter'),
      h('p', { class: 'soft', role: 'status' }, 'It opened in another window. This one goes on by itself when you are done there.'),
      h('div', { class: 'row' },
        h('a', { class: 'button', href: `/fund/start#${attempt.id}`, target: '_blank', rel: 'noopener noreferrer' }, 'Open it again'),
        h('button', { type: 'button', onclick: () => { end(); askFunding(attempt, ways) } }, 'Pay another way'))),
  )
}
