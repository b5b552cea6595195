/** Polls the numbers of an open dashboard, so that spend is shown within two seconds. */
import { ask } from './wire.js'

const EVERY_MS = 1500

/** @typedef {{text: string, exact: string, share?: number}} Amount */

/** @param {Element | null} element @param {Amount} amount */
function put(element, amount) {
  if (!element || element.textContent === amount.text && element.getAttribute('title') === `$${amount.exact}`) return
  element.textContent = amount.text
  element.setAttribute('title', `$${amount.exact}`)
}

async function refresh() {
  if (document.visibilityState !== 'visible') return
  const spend = /** @type {{total: Amount, today: Amount, week: Amount, apps: Record<string, Amount>}} */ (await ask('/spend'))
  // The totals are of all apps; an app's own page has none.
  if (document.getElementById('total')) {
    put(document.getElementById('total'), spend.total)
    put(document.getElementById('today'), spend.today)
    put(document.getElementById('week'), spend.week)
  }
  for (const [ref, amount] of Object.entries(spend.apps)) {
    const row = document.querySelector(`[data-ref="${CSS.escape(ref)}"]`)
    put(row?.querySelector('[data-spent]') ?? null, amount)
    row?.querySelector('.fill')?.setAttribute('width', String(amount.share))
  }
}

async function keepFresh() {
  // Signed out, or the site is down: keep the numbers; the next request may succeed.
  await refresh().catch(() => {})
  setTimeout(keepFresh, EVERY_MS)
}
void keepFresh()
