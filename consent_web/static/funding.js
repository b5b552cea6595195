/** Pasting a key on the dashboard: posted once, cleared at once. */
import { say } from './dom.js'
import { ask, Refusal } from './wire.js'

const form = /** @type {HTMLFormElement} */ (document.getElementById('paste-form'))
const key = /** @type {HTMLInputElement} */ (document.getElementById('key'))
const fault = /** @type {HTMLElement} */ (document.getElementById('key-fault'))
const csrf = document.querySelector('meta[name=csrf]')?.getAttribute('content') ?? ''

let way = ''

form?.addEventListener('submit', async (event) => {
  event.preventDefault()
  const typed = key.value
  say(fault, '')
  try {
    await ask('/fund/key', { key: typed, ...(way && { way }) }, csrf)
    location.reload()
  } catch (refused) {
    if (refused instanceof Refusal && refused.reason === 'other_wallet') way = 'switch'
    else key.value = ''
    key.setAttribute('aria-invalid', 'true')
    say(fault, refused instanceof Refusal ? refused.message : 'That did not work. Try again.')
    key.focus()
  }
})
