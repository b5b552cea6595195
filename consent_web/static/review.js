/** The question: who asks, for how much, paid by what. Allow exists only here, after the server verified the origin. */
import { disarm, isMeant, watch } from './arming.js'
import { apart, h, say, secretId, show } from './dom.js'
import { until } from './time.js'

/** @typedef {import('./wire.js').Attempt} Attempt */
/** @typedef {import('./wire.js').Choice} Choice */

/** @type {Record<string, [string, string]>} */
const WARNINGS = {
  unchecked: ['warn', 'OpenRouter could not be asked what is left on this key.'],
  no_credit: ['bad', 'Nothing is left on this key. Raise its limit at OpenRouter, or change how you pay.'],
  free: ['warn', 'This account has not bought credit yet: most models will refuse.'],
  low: ['warn', 'Little is left on this key.'],
  unlimited: ['warn', 'This key has no limit of its own: the cap here is the only wall.'],
}

/** Why Allow does not work, in words. @type {Record<import('./arming.js').Why, string>} */
const HINTS = {
  ready: '',
  wait: '',
  small: 'This window is too small to show what you would allow. Make it larger.',
  unread: 'Scroll to see all of it first.',
  move: 'Move the pointer, then press again.',
}

/**
 * Who asks, as the server verified it.
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
        h('p', {}, h('span', { class: 'origin' }, attempt.origin), ' ', attempt.isRedirect
          // Redirect mode has no opener to verify: the approval is held until the app's own page redeems it.
          ? h('span', { class: 'soft small' }, 'you go back to ', h('span', { class: 'mono' }, attempt.returnUrl))
          : h('span', { class: 'proof' }, '✓ verified just now')))))
}

/**
 * Ask the question.
 * @param {Attempt} attempt
 * @param {{allow: (usd: number | null) => Promise<string>, deny: () => void, change: () => void, leave: () => void}} ways
 *   `allow` resolves to what went wrong, empty when nothing did.
 */
export function askConsent(attempt, ways) {
  const cap = attempt.cap ? new Cap(attempt) : null
  const pays = attempt.mode === 'live'
  const fault = h('p', { class: 'note bad', role: 'alert', hidden: true })
  const ready = h('p', { class: 'hide', role: 'status' })
  const hint = h('p', { class: 'hint', role: 'status', hidden: true })
  const deny = h('button', { type: 'button', class: 'deny', onclick: ways.deny }, 'Don’t allow')
  // No control here has an id: whoever opened this window could focus it by a fragment.
  const allow = h('button', { type: 'button', class: 'act', 'data-answer': 'allow', onclick: async (event) => {
    if (!isMeant(event)) return
    const usd = cap ? cap.read() : null
    if (Number.isNaN(usd)) return
    disarm()
    allow.textContent = 'Saving…'
    const wrong = await ways.allow(usd)
    label()
    say(fault, wrong)
  } })
  const sentence = h('h1', { class: 'ask' })
  const label = () => {
    const chosen = cap?.chosen()
    allow.textContent = attempt.grant ? attempt.grant.button : chosen ? `Allow up to ${chosen.short}/month` : cap ? 'Allow' : 'Allow test requests'
    sentence.textContent = attempt.text.sentence
      .replace('{cap}', () => chosen?.text ?? 'the amount below').replace('{app}', () => apart(attempt.app.name))
      .replace('{until}', () => until(Date.now() + (attempt.grant?.lifeSeconds ?? 0) * 1000))
  }
  if (cap) cap.onchange = label
  label()
  const current = attempt.current
  show(h('div', { class: 'scroll' },
    head(attempt),
    pays && !current && h('p', { class: 'small soft hide' }, 'Step 2 of 2'),
    sentence,
    h('p', { class: 'small soft' }, attempt.text.account),
    current && h('p', { class: 'note' }, `Connected now with ${current.cap} per month, ${current.spent} spent. Allowing replaces the cap.`),
    cap && attempt.mode === 'live' && cap.element,
    pays && payLine(attempt, ways),
    fault,
    h('ul', { class: 'terms' },
      h('li', {}, h('b', {}, 'It can '), attempt.text.can),
      h('li', {}, h('b', {}, 'It cannot '), attempt.text.cannot),
      h('li', {}, attempt.text.stop))),
    h('div', { class: 'answers' }, hint, h('div', { class: 'pair' }, deny, allow)),
    ready,
  )
  const parts = [...document.querySelectorAll('.who .name, .who .origin'), sentence, ...(cap && pays ? [cap.element] : [])]
  watch((why) => {
    const isReady = why === 'ready' || why === 'move'
    allow.setAttribute('aria-disabled', String(!isReady))
    ready.textContent = isReady ? 'Ready.' : 'Ready in a moment.'
    if (hint.textContent !== HINTS[why]) say(hint, HINTS[why])
  }, parts)
}

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

/** The cap: a few amounts and a field for any other. */
class Cap {
  /** @param {Attempt} attempt */
  constructor(attempt) {
    this.options = /** @type {import('./wire.js').CapChoice} */ (attempt.cap)
    /** @type {() => void} */
    this.onchange = () => {}
    const { chosen, choices } = this.options
    const listed = choices.find((choice) => choice.usd === chosen.usd)
    /** @type {Choice | null} */
    this.picked = listed ?? (choices.length ? null : chosen)
    const [range, fault] = [secretId(), secretId()]
    this.fault = h('p', { class: 'fault', id: fault, role: 'alert', hidden: true })
    this.input = /** @type {HTMLInputElement} */ (h('input', {
      type: 'text', inputmode: 'decimal', autocomplete: 'off', 'aria-describedby': `${fault} ${range}`,
      oninput: () => { this.check(false); this.onchange() },
    }))
    this.input.value = listed || !choices.length ? '' : chosen.text.replace('$', '').replace(',', '')
    this.other = h('div', { class: 'stack other', hidden: Boolean(this.picked) },
      h('label', { class: 'field' }, 'Amount in US dollars per month', this.input),
      this.fault, h('p', { class: 'small soft', id: range }, this.options.range))
    this.element = h('fieldset', {},
      h('legend', {}, 'Monthly cap ', h('span', { class: 'small soft' }, attempt.text.month)),
      h('div', { class: 'choices' }, ...choices.map((choice) => this.radio(choice)), this.radio(null)), this.other)
  }

  /** @param {Choice | null} choice */
  radio(choice) {
    const isPicked = choice ? this.picked === choice : this.picked === null
    return h('label', { class: 'choice' },
      h('input', { type: 'radio', name: 'cap', value: choice ? choice.usd : 'other', checked: isPicked, onchange: () => {
        this.picked = choice
        this.other.hidden = choice !== null
        if (!choice) this.input.focus()
        this.onchange()
      } }),
      h('span', {}, choice ? choice.short : 'Other', choice?.suggested && h('small', {}, 'asked')))
  }

  /** The chosen amount; null while what is typed is none. @returns {Choice | null} */
  chosen() {
    if (this.picked) return this.picked
    const cents = parseCents(this.input.value)
    if (cents === null || cents < this.options.leastUsd * 100 || cents > this.options.mostUsd * 100) return null
    const short = cents % 100 ? `$${(cents / 100).toFixed(2)}` : `$${cents / 100}`
    return { usd: cents / 100, text: `$${(cents / 100).toFixed(2)}`, short, suggested: false }
  }

  /** The amount to send; NaN, and the fault shown, when there is none. */
  read() {
    const chosen = this.chosen()
    if (!chosen) this.check(true)
    return chosen ? chosen.usd : NaN
  }

  /** @param {boolean} isLast */
  check(isLast) {
    const wrong = this.chosen() === null && (isLast || this.input.value.length > 2)
    this.input.setAttribute('aria-invalid', String(wrong))
    say(this.fault, wrong ? `Type an amount such as 10 or 10.50. ${this.options.range}` : '')
    if (isLast) this.input.focus()
  }
}

/**
 * Read `10`, `10.5`, `10,50` or `$10` as cents; null when it is none of these.
 * @param {string} text
 * @returns {number | null}
 */
export function parseCents(text) {
  const found = /^(?:US)?\$?\s*(\d{1,5})(?:[.,](\d{1,2}))?$/.exec(text.trim())
  return found ? Number(found[1]) * 100 + Number((found[2] ?? '').padEnd(2, '0')) : null
}
