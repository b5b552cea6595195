/** A masked field for an OpenRouter key, of a type that password managers do not offer to save. */
import { h, say, secretId } from './dom.js'
import { Refusal } from './wire.js'

/**
 * Return a form that saves a pasted key. The input is kept until it was accepted, and faults are shown below it.
 * @param {{help: string, save: (key: string, way: string) => Promise<unknown>, saved: () => void}} ways
 *   `way`: empty, or `switch` after the payer confirmed to leave the present wallet for another one.
 */
export function pasteForm({ help, save, saved }) {
  const [helpId, faultId] = [secretId(), secretId()]
  let way = ''
  const key = /** @type {HTMLInputElement} */ (h('input', {
    type: 'text', class: 'secret', autocomplete: 'off', spellcheck: 'false', autocapitalize: 'none', autocorrect: 'off',
    // Attributes that tell the common password managers to ignore the field.
    'data-1p-ignore': '', 'data-lpignore': 'true', 'data-bwignore': '',
    placeholder: 'sk-or-…', 'aria-describedby': `${faultId} ${helpId}`,
  }))
  const fault = h('p', { class: 'fault', role: 'alert', id: faultId, hidden: true })
  const reveal = h('button', { type: 'button', 'aria-pressed': 'false', onclick: () => {
    const isHidden = key.classList.toggle('secret')
    reveal.textContent = isHidden ? 'Show' : 'Hide'
    reveal.setAttribute('aria-pressed', String(!isHidden))
  } }, 'Show')
  const use = h('button', { type: 'submit', class: 'act whole' }, 'Use this key')
  return h('form', { class: 'stack tight', onsubmit: async (event) => {
    event.preventDefault()
    say(fault, '')
    key.removeAttribute('aria-invalid')
    try {
      await save(key.value, way)
      key.value = ''
      saved()
    } catch (refused) {
      if (refused instanceof Refusal && refused.reason === 'other_wallet') {
        // The refusal, which names both keys, is shown once; the same button then starts another wallet.
        way = 'switch'
        use.textContent = 'Start another budget with this key'
      } else {
        key.setAttribute('aria-invalid', 'true')
        key.focus()
      }
      say(fault, refused instanceof Refusal ? refused.message : 'That did not work. Try again.')
    }
  } },
  h('div', { class: 'reveal' }, h('label', { class: 'field' }, 'OpenRouter key', key), reveal),
  fault, h('p', { class: 'small soft', id: helpId }, help), use)
}
