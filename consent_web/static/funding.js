/** Pasting a key on the dashboard: posted once, cleared at once. */
import { say } from './dom.js'
import { ask, Refusal } from './wire.js'

const form = /** @type {HTMLFormElement} */ (document.getElementById('paste-form'))
const key = /** @type {HTMLInputElement} */ (document.getElementById('key'))
const fault = /** @type {HTMLElement} */ (document.getElementById('key-fault'))
const csrf = document.querySelector('meta[name=csrf]')?.getAttribute('content') ?? ''

form?.addEventListener('submit', async (event) => {
  event.preventDefault()
  const typed = key.value
  key.value = ''
  say(fault, '')
  try {
    await ask('/fund/key', { key: typed }, csrf)
    location.reload()
  } catch (refused) {
    key.setAttribute('aria-invalid', 'true')
    say(fault, refused instanceof Refusal ? refused.message : 'That did not work. Try again.')
    key.focus()
  }
})
