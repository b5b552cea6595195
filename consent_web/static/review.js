/** The question: app, cap and funding. Rule: Allow exists only here, after the server has verified the origin. */
import { disarm, isMeant, watch } from './arming.js'
import { Cap } from './cap.js'
import { apart, h, say, show } from './dom.js'
import { until } from './time.js'

/** @typedef {import('./wire.js').Attempt} Attempt */

/** @type {Record<string, [string, string]>} */
const WARNINGS = {
  unchecked: ['warn', 'OpenRouter could not be asked what is left on this key.'],
  no_credit: ['bad', 'Nothing is left on this key. Raise its limit at OpenRouter, or change how you pay.'],
  free: ['warn', 'This account has not bought credit yet: most models will refuse.'],
}

/** Texts for why Allow is disabled. @type {Record<import('./arming.js').Why, string>} */
const HINTS = {
  ready: '',
  wait: '',
  small: 'This window is too small to show what you would allow. Make it larger.',
  unread: 'Scroll to see all of it first.',
  move: 'Move the pointer, then press again.',
}

/**
 * The requesting app, as verified by the server.
 * @param {Attempt} attempt
 * @returns {HTMLElement}
 */
export function head(attempt) {
  return h('div', { class: 'stack' },
    attempt.mode === 'test' && h('p', { class: 'test' }, 'Test mode: nothing is charged'),
    h('div', { class: 'who' },
      h('div', { class: 'face', 'aria-hidden': 'true' }, attempt.app.initial),
      h('div', { class: 'grow' },
        h('p', { class: 'name' }, h('bdi', {}, attempt.app.name)),
        h('p', { class: 'origin' }, attempt.origin),
        h('p', {}, attempt.isRedirect
          // Redirect mode has no opener to verify: the approval is held until the app's own page redeems it.
          ? h('span', { class: 'soft small' }, 'you go back to ', h('span', { class: 'mono' }, attempt.returnUrl))
          : h('span', { class: 'proof' }, '✓ verified just now')))))
}

/**
 * Show the question.
 * @param {Attempt} attempt
 * @param {{allow: (usd: number | null) => Promise<string>, deny: () => void, change: () => void, leave: () => void, isStep: boolean}} ways
 *   `allow` resolves to a fault's text, empty on success; `isStep`: the funding step was shown in this window before.
 */
export function askConsent(attempt, ways) {
  const pays = attempt.mode === 'live'
  const cap = attempt.cap && pays ? new Cap(attempt) : null
  const fault = h('p', { class: 'note bad', role: 'alert', hidden: true })
  const ready = h('p', { class: 'hide', role: 'status' })
  const hint = h('p', { class: 'hint', role: 'status', hidden: true })
  const short = h('p', { class: 'note', role: 'status', hidden: true })
  const deny = h('button', { type: 'button', class: 'deny', onclick: ways.deny }, 'Don’t allow')
  // No control here has a fixed id, which the opener could focus by a fragment.
  const allow = h('button', { type: 'button', class: 'act', 'data-answer': 'allow', onclick: async (event) => {
    if (!isMeant(event)) return
    const usd = cap ? cap.read() : null
    if (Number.isNaN(usd)) return
    disarm()
    // A value changed without an event, for example by an extension, is shown before it can be allowed.
    if (usd !== shown) return label()
    allow.textContent = 'Saving…'
    const wrong = await ways.allow(usd)
    label()
    say(fault, wrong)
  } })
  const sentence = h('h1', { class: 'ask' })
  /** The amount on the button. @type {number | null} */
  let shown = null
  const label = () => {
    const chosen = cap?.chosen()
    shown = chosen?.usd ?? null
    allow.textContent = attempt.grant ? attempt.grant.button : chosen ? `Allow up to ${chosen.short}/month` : cap ? 'Allow' : 'Allow test requests'
    sentence.textContent = fill(attempt, attempt.text.sentence, chosen?.text ?? 'the amount below')
    const left = attempt.funding?.leftUsd ?? null
    const isShort = left !== null && chosen && left < chosen.usd
    const words = isShort ? `Only ${attempt.funding?.left} on this key, less than this cap.` : ''
    if (short.textContent !== words) say(short, words)
  }
  if (cap) cap.onchange = label
  label()
  const { text, current, others } = attempt
  show(h('div', { class: 'scroll' },
    head(attempt),
    ways.isStep && h('p', { class: 'small soft step' }, 'Step 2 of 2'),
    h('div', { class: 'stack tight' }, sentence,
      !pays && h('p', {}, fill(attempt, text.month, attempt.cap?.chosen.text ?? '')),
      h('p', { class: 'small soft' }, text.account)),
    (current || others) && h('div', { class: 'note stack tight' }, current && h('p', {}, current.text), others && h('p', {}, others)),
    cap?.element,
    pays && payLine(attempt, ways),
    short,
    h('ul', { class: 'terms' },
      text.can && h('li', {}, h('b', {}, 'It can '), text.can),
      text.cannot && h('li', {}, h('b', {}, 'It cannot '), text.cannot),
      h('li', {}, text.stop))),
    h('div', { class: 'answers' }, fault, hint, h('div', { class: 'pair' }, deny, allow)),
    ready,
  )
  if (attempt.notice) say(fault, attempt.notice)
  const parts = [...document.querySelectorAll('.who .name, .who .origin'), sentence, ...(cap ? [cap.element] : [])]
  watch((why) => {
    const isReady = why === 'ready' || why === 'move'
    allow.setAttribute('aria-disabled', String(!isReady))
    ready.textContent = isReady ? 'Ready.' : 'Ready in a moment.'
    if (hint.textContent !== HINTS[why]) say(hint, HINTS[why])
  }, parts)
}

/**
 * Fill the cap and the app's name into one of the server's sentences.
 * @param {Attempt} attempt
 * @param {string} words
 * @param {string} cap
 */
const fill = ({ app, grant }, words, cap) => words.replace('{cap}', () => cap).replace('{app}', () => apart(app.name))
  .replace('{until}', () => until(Date.now() + (grant?.lifeSeconds ?? 0) * 1000))

/**
 * @param {Attempt} attempt
 * @param {{change: () => void, leave: () => void}} ways
 */
function payLine(attempt, ways) {
  const funding = attempt.funding
  if (!funding) return null
  const warning = WARNINGS[funding.warning]
  return h('div', { class: 'stack' },
    h('div', { class: 'pay' },
      h('span', { class: 'grow' }, 'OpenRouter ', h('span', { class: 'mono' }, `····${funding.last4}`), funding.left && `, ${funding.left}`),
      h('span', { class: 'links' },
        h('button', { type: 'button', class: 'link', onclick: ways.change }, 'Change'),
        h('button', { type: 'button', class: 'link', onclick: ways.leave }, 'Not you?'))),
    warning && h('p', { class: `note ${warning[0]}`, role: 'status' }, warning[1]))
}
