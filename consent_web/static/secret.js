/**
 * The login's secret, in local storage: unlike cookies, a page on another port of this host cannot read or set it. Where
 * storage is blocked the secret lasts as long as the page.
 */

const NAME = 'wattfare-secret'
const FORM = /^[A-Za-z0-9_-]{43}$/
let kept = ''

function fresh() {
  const bytes = String.fromCharCode(...crypto.getRandomValues(new Uint8Array(32)))
  return btoa(bytes).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')
}

/** @returns {string} */
export function secret() {
  try {
    if (!FORM.test(localStorage.getItem(NAME) ?? '')) localStorage.setItem(NAME, fresh())
    // Read it back: another tab may have stored one first.
    kept = localStorage.getItem(NAME) ?? kept
  } catch {
    // Storage is blocked.
  }
  if (!FORM.test(kept)) kept = fresh()
  return kept
}
