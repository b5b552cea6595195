/** Passkeys: calls WebAuthn with the server's options and posts the result. */
import { say } from './dom.js'
import { ask, Refusal } from './wire.js'

/** @param {string} text base64url */
const bytes = (text) => Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (char) => char.charCodeAt(0))
/** @param {ArrayBuffer} buffer */
const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')
/** @param {{id: string, type: string}[]} list */
const named = (list) => list.map((one) => ({ ...one, type: /** @type {const} */ ('public-key'), id: bytes(one.id) }))

/** Whether this browser has passkeys at all. */
export const canUse = typeof PublicKeyCredential === 'function'

/**
 * Register a passkey. Throws Refusal.
 * @param {string} csrf
 */
export async function setUp(csrf) {
  const asked = await ask('/passkeys/options', { purpose: 'create' }, csrf)
  const publicKey = {
    ...asked, challenge: bytes(asked.challenge), user: { ...asked.user, id: bytes(asked.user.id) }, excludeCredentials: named(asked.excludeCredentials ?? []),
  }
  const made = await answered(() => navigator.credentials.create({ publicKey }))
  const { clientDataJSON, attestationObject } = /** @type {AuthenticatorAttestationResponse} */ (made.response)
  await send('/passkeys/create', made, { clientDataJSON: text(clientDataJSON), attestationObject: text(attestationObject) }, csrf)
}

/**
 * Prove ownership by a passkey. Throws Refusal.
 * @param {string} csrf
 */
export async function prove(csrf) {
  const asked = await ask('/passkeys/options', { purpose: 'get' }, csrf)
  const publicKey = { ...asked, challenge: bytes(asked.challenge), allowCredentials: named(asked.allowCredentials ?? []) }
  const used = await answered(() => navigator.credentials.get({ publicKey }))
  const { clientDataJSON, authenticatorData, signature } = /** @type {AuthenticatorAssertionResponse} */ (used.response)
  const response = { clientDataJSON: text(clientDataJSON), authenticatorData: text(authenticatorData), signature: text(signature) }
  await send('/passkeys/get', used, response, csrf)
}

/** @param {() => Promise<Credential | null>} step @returns {Promise<PublicKeyCredential>} */
async function answered(step) {
  const credential = await step().catch(() => null)
  if (!credential) throw new Refusal('No passkey was used. Try again, or prove it another way.', 'passkey')
  return /** @type {PublicKeyCredential} */ (credential)
}

/** @param {string} path @param {PublicKeyCredential} used @param {Record<string, string>} response @param {string} csrf */
function send(path, { id, rawId, type }, response, csrf) {
  return ask(path, { credential: { id, rawId: text(rawId), type, response } }, csrf)
}

// The dashboard's buttons, and the element that shows their faults.
for (const button of document.querySelectorAll('button[data-passkey]')) {
  const fault = document.getElementById('passkey-fault')
  const csrf = document.querySelector('meta[name=csrf]')?.getAttribute('content') ?? ''
  const step = button.getAttribute('data-passkey') === 'create' ? setUp : prove
  button.toggleAttribute('hidden', !canUse)
  button.addEventListener('click', () => {
    step(csrf).then(() => location.assign(button.getAttribute('data-then') ?? '/passkeys'), (refused) => {
      if (fault) say(fault, refused instanceof Refusal ? refused.message : 'That did not work. Try again.')
    })
  })
}
