/** The control for the monthly cap: a few amounts and a field for any other. */
import { h, say, secretId } from './dom.js'

/** @typedef {import('./wire.js').Attempt} Attempt */
/** @typedef {import('./wire.js').Choice} Choice */

/** The control for the monthly cap. */
export class Cap {
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
      h('legend', {}, 'Monthly cap ', h('span', { class: 'soft' }, attempt.text.month)),
      h('div', { class: 'choices' }, ...choices.map((choice) => this.radio(choice)), this.radio(null)), this.other,
      this.options.suggestion && h('p', { class: 'small soft suggested' }, this.options.suggestion))
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
      h('span', {}, choice ? choice.short : 'Other'))
  }

  /** The chosen amount; null while the typed text is not an amount. @returns {Choice | null} */
  chosen() {
    if (this.picked) return this.picked
    const cents = parseCents(this.input.value)
    if (cents === null || cents < this.options.leastUsd * 100 || cents > this.options.mostUsd * 100) return null
    const short = cents % 100 ? `$${(cents / 100).toFixed(2)}` : `$${cents / 100}`
    return { usd: cents / 100, text: `$${(cents / 100).toFixed(2)}`, short }
  }

  /** The amount to send; NaN, with the fault shown, if the text is not an amount. */
  read() {
    const chosen = this.chosen()
    if (!chosen) this.check(true)
    return chosen ? chosen.usd : NaN
  }

  /** @param {boolean} isLast */
  check(isLast) {
    const wrong = this.chosen() === null && (isLast || this.input.value.length > 2)
    this.input.setAttribute('aria-invalid', String(wrong))
    say(this.fault, wrong ? 'That is no amount that can be a cap. Type one such as 10 or 10.50.' : '')
    if (isLast) this.input.focus()
  }
}

/**
 * Parse `10`, `10.5`, `10,50` or `$10` as cents; null for anything else.
 * @param {string} text
 * @returns {number | null}
 */
export function parseCents(text) {
  const found = /^(?:US)?\$?\s*(\d{1,5})(?:[.,](\d{1,2}))?$/.exec(text.trim())
  return found ? Number(found[1]) * 100 + Number((found[2] ?? '').padEnd(2, '0')) : null
}
