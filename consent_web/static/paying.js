/** Step 1 of 2: how to pay. OpenRouter opens in a window of its own, so that this one never leaves its app. */
import { h, say, show } from './dom.js'
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
  proof: 'To allow more than before, prove that you are who pays: with OpenRouter, or with the key that pays now.',
  away: 'OpenRouter did not answer. Try again in a moment.',
}

/** @param {string} fault */
export function faultText(fault) {
  return fault && fault !== 'done' ? (FAULTS[fault] ?? 'That did not work. Try again.') : ''
}

/**
 * Ask how to pay. `go` is called when that is settled, `deny` for a no.
 * @param {Attempt} attempt
 * @param {{go: () => void, deny: () => void, back: (() => void) | null}} ways
 */
export function askFunding(attempt, ways) {
  const fault = h('p', { class: 'note bad', role: 'alert', hidden: true, id: 'pay-fault' })
  const key = /** @type {HTMLInputElement} */ (h('input', {
    type: 'password', id: 'key', autocomplete: 'off', spellcheck: 'false', autocapitalize: 'none',
    placeholder: 'sk-or-…', 'aria-describedby': 'key-help pay-fault',
  }))
  let way = ''
  const save = async (/** @type {Event} */ event) => {
    event.preventDefault()
    const typed = key.value
    say(fault, '')
    try {
      await ask(`/consent/attempts/${attempt.id}/key`, { key: typed, ...(way && { way }) }, attempt.csrf)
      key.value = ''
      ways.go()
    } catch (refused) {
      if (refused instanceof Refusal && refused.reason === 'other_wallet') {
        // Said once, with both keys named: the same button then starts another budget.
        way = 'switch'
        use.textContent = 'Start another budget with this key'
        return say(fault, refused.message)
      }
      key.value = ''
      key.setAttribute('aria-invalid', 'true')
      say(fault, refused instanceof Refusal ? refused.message : 'That did not work. Try again.')
      key.focus()
    }
  }
  const use = h('button', { type: 'submit', class: 'act' }, 'Use this key')
  const form = h('form', { class: 'stack', onsubmit: save, hidden: true },
    h('label', { class: 'field', for: 'key' }, 'OpenRouter key'), key,
    h('p', { class: 'small soft', id: 'key-help' }, 'Kept encrypted; shown never again. A key with a limit is safest.'),
    use)
  const toggle = h('button', { type: 'button', 'aria-expanded': 'false', onclick: () => {
    form.hidden = !form.hidden
    toggle.setAttribute('aria-expanded', String(!form.hidden))
    if (!form.hidden) key.focus()
  } }, 'Paste an OpenRouter key')
  show(
    head(attempt),
    h('p', { class: 'small soft' }, 'Step 1 of 2'),
    h('h1', {}, 'How do you want to pay?'),
    h('p', { class: 'soft' }, 'You pay OpenRouter directly for what you use. The app never sees your key. Nothing is allowed yet.'),
    fault,
    h('a', { class: 'button act', href: `/fund/start#${attempt.id}`, target: '_blank', rel: 'noopener noreferrer', onclick: (event) => {
      event.preventDefault()
      window.open(`/fund/start#${attempt.id}`, '_blank', 'noopener,popup,width=480,height=720')
      waitForFunding(attempt, ways)
    } }, 'Continue with OpenRouter'),
    toggle, form,
    h('div', { class: 'last' },
      ways.back
        ? h('button', { type: 'button', class: 'whole', onclick: ways.back }, 'Back')
        : h('button', { type: 'button', class: 'deny whole', onclick: ways.deny }, 'Don’t allow')),
  )
  say(fault, faultText(attempt.fault))
}

/**
 * Wait while OpenRouter asks in its own window: told by it, and looking ourselves in case it cannot tell.
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
    // Empty: funding failed in some window, which cannot say for which attempt: ask the server about ours.
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
