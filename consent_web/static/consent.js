/** The popup's flow: verify the opener, turn the token into an attempt, show the question, report the outcome, close. */
import { askFunding } from './paying.js'
import { askConsent } from './review.js'
import { screen, warnOfLoss } from './screens.js'
import { forgetTime, until, watchTime } from './time.js'
import { ask, findOpener, Refusal, report, reportFault, takeFragment } from './wire.js'

/** @typedef {import('./wire.js').Attempt} Attempt */
/** @typedef {import('./wire.js').Asked} Asked */

const CLOSE_AFTER_MS = { approved: 1500, denied: 400 }

/** @type {Attempt | null} */
let current = null
/** Whether the funding step was shown in this window: the question is then step 2. */
let wasAsked = false

/** @param {() => Promise<void>} step @param {() => void} [retry] */
async function attemptStep(step, retry) {
  try {
    await step()
  } catch (refused) {
    const { reason, message } = refused instanceof Refusal ? refused : { reason: 'unknown', message: 'Something went wrong. Nothing was allowed.' }
    reportFault(reason)
    screen(reason, { message, retry: retry ?? (() => void attemptStep(step)) })
  }
}

async function start() {
  const asked = takeFragment()
  const kept = history.state?.attempt
  if (asked) await attemptStep(() => begin(asked))
  else if (typeof kept === 'string') await attemptStep(() => resume(kept))
  else screen(window.opener ? 'malformed' : 'no_opener')
}

/** @param {Asked} asked */
async function begin(asked) {
  const isGrant = asked.type === 'grant'
  if (!isGrant && asked.type !== 'connect') return screen('malformed')
  const body = { key: asked.key, nonce: asked.nonce, ...(isGrant ? { grant: asked.grant } : { session: asked.session }) }
  if (asked.mode === 'redirect' && !isGrant) return open({ ...body, returnUrl: asked.returnUrl, challenge: asked.challenge })
  if (!window.opener) return screen('no_opener')
  if (window.opener.top !== window.opener && !asked.key.startsWith('pk_test_')) {
    screen('framed')
    await findOpener(asked.nonce)
    return reportFault('framed')
  }
  screen('verifying')
  const { origin, session } = await findOpener(asked.nonce)
  if (!origin) return screen('no_answer')
  await open({ ...body, ...(!isGrant && { session: asked.session || session }), origin })
}

/** @param {Record<string, unknown>} body */
async function open(body) {
  const attempt = /** @type {Attempt} */ (await ask('/consent/attempts', body))
  history.replaceState({ attempt: attempt.id }, '', location.pathname)
  render(attempt)
}

/** @param {string} id */
async function resume(id) {
  render(/** @type {Attempt} */ (await ask(`/consent/attempts/${id}`)))
}

/** @param {Attempt} attempt */
function render(attempt) {
  current = attempt
  reportFault('')
  document.title = `${attempt.app.name} asks for an AI budget – ${location.host}`
  if (attempt.state !== 'pending' && attempt.state !== 'claimed') return finish(attempt)
  watchTime(attempt, {
    extend: () => ask(`/consent/attempts/${attempt.id}/extend`, {}, attempt.csrf),
    over: () => void attemptStep(() => resume(attempt.id)),
  })
  if (attempt.mode === 'live' && !attempt.funding) return pay(attempt, null)
  if (attempt.funding && !attempt.funding.works) return pay({ ...attempt, fault: 'key_refused' }, null)
  if (attempt.grant && attempt.mode === 'test') {
    // Test mode: nothing can be spent, and a developer repeats this often, so close without a last screen.
    return void attemptStep(() => approve(attempt, {}))
  }
  askConsent(attempt, {
    isStep: wasAsked,
    allow: (usd) => allow(attempt, usd),
    deny: () => void deny(attempt),
    change: () => pay(attempt, () => render(attempt)),
    leave: () => (attempt.isLostByLeaving ? warnOfLoss({ keep: () => render(attempt), leave: () => leave(attempt) }) : leave(attempt)),
  })
}

/** @param {Attempt} attempt */
function leave(attempt) {
  void attemptStep(async () => {
    await ask(`/consent/attempts/${attempt.id}/wallet`, {}, attempt.csrf)
    await resume(attempt.id)
  }, () => render(attempt))
}

/** @param {Attempt} attempt @param {(() => void) | null} back */
function pay(attempt, back) {
  wasAsked ||= !back
  askFunding(attempt, { go: () => void attemptStep(() => resume(attempt.id)), deny: () => void deny(attempt), back })
}

/** @param {Attempt} attempt @param {{monthlyUsd?: number}} cap */
async function approve(attempt, cap) {
  finish({ ...attempt, ...(await ask(`/consent/attempts/${attempt.id}/approve`, cap, attempt.csrf)) })
}

/** @param {Attempt} attempt @param {number | null} usd */
async function allow(attempt, usd) {
  try {
    await approve(attempt, usd === null ? {} : { monthlyUsd: usd })
    return ''
  } catch (refused) {
    if (refused instanceof Refusal && refused.reason === 'proof') {
      pay({ ...attempt, fault: 'proof' }, () => render(attempt))
      return ''
    }
    if (refused instanceof Refusal && refused.reason === 'again') {
      await attemptStep(async () => render({ ...(await ask(`/consent/attempts/${attempt.id}`)), notice: refused.message }))
      return ''
    }
    if (refused instanceof Refusal && ['expired', 'elsewhere', 'answered', 'closed'].includes(refused.reason)) {
      forgetTime()
      reportFault(refused.reason)
      screen(refused.reason, { message: refused.message })
      return ''
    }
    return refused instanceof Refusal ? refused.message : 'That did not work. Try again.'
  }
}

/** @param {Attempt} attempt */
async function deny(attempt) {
  await attemptStep(async () => {
    const decided = await ask(`/consent/attempts/${attempt.id}/deny`, {}, attempt.csrf)
    finish({ ...attempt, ...decided })
  }, () => render(attempt))
}

/** @param {Attempt} attempt */
function finish(attempt) {
  const { state, app } = attempt
  current = null
  forgetTime()
  if (attempt.redirect) {
    screen(state === 'denied' ? 'denied' : 'returning', { app: app.name })
    location.replace(attempt.redirect)
    return
  }
  report(attempt)
  if (state !== 'approved' && state !== 'denied') return screen(state)
  if (attempt.grant && state === 'approved') {
    // The page has received the grant's token, which is stored nowhere else.
    void ask(`/consent/attempts/${attempt.id}/handed-on`, {}, attempt.csrf).catch(() => {})
    const end = until((attempt.result?.expiresAt ?? 0) * 1000)
    screen('granted', { app: app.name, said: attempt.grant.said.replace('{until}', () => end) })
    setTimeout(() => window.close(), CLOSE_AFTER_MS.approved)
    return
  }
  const limits = /** @type {{limits?: {monthlyUsd: number | null} | null}} */ (attempt.result?.status ?? {}).limits
  const usd = limits?.monthlyUsd
  const what = attempt.mode === 'test' || typeof usd !== 'number' ? 'Its test requests cost nothing' : `Up to $${usd.toFixed(9).replace(/(\.\d\d\d*?)0+$/, '$1')} per month`
  screen(state, { app: app.name, what })
  setTimeout(() => window.close(), CLOSE_AFTER_MS[state])
}

// A page restored from the back-forward cache is stale: load its attempt again.
addEventListener('pageshow', (event) => {
  if (event.persisted && current) void attemptStep(() => resume(/** @type {Attempt} */ (current).id))
})
if (self.origin === location.origin) void start()
