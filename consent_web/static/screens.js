/** All screens other than funding and question: what happened, why, and what to do. */
import { apart, h, show } from './dom.js'

/** @typedef {{sign?: string, tone?: string, title: string, lines: string[], retry?: boolean}} Screen */

/** @type {Record<string, Screen>} */
const SCREENS = {
  opening: { title: 'Opening…', lines: ['Checking which page asks.'] },
  verifying: { title: 'Checking who asks…', lines: ['The page that opened this window has to prove its address.'] },
  no_answer: {
    sign: '?', tone: 'warn', title: 'Nobody answered for this request',
    lines: ['The page that opened this window did not prove its address in time. It may have been closed or have moved on. Nothing was allowed.', 'Go back to the app and try again.'],
  },
  no_opener: {
    sign: '?', tone: 'warn', title: 'This window lost its app',
    lines: ['It must be opened by an app, with a click there. A link in a mail or chat cannot open it. Nothing was allowed.', 'Open the app and connect from there.'],
  },
  framed: {
    sign: '!', tone: 'bad', title: 'The app is inside another page',
    lines: ['Another page shows the app in a frame and could steer it. Nothing was allowed.', 'Open the app in a tab of its own and try again.'],
  },
  origin: {
    sign: '!', tone: 'bad', title: 'This page cannot be verified',
    lines: ['{message}', 'If you do not know the page, close both windows. If you build this app, register exactly that address.'],
  },
  return_url: {
    sign: '!', tone: 'bad', title: 'This app may not return there',
    lines: ['{message}', 'If you build this app, register exactly that address as a return URL.'],
  },
  malformed: {
    sign: '!', tone: 'warn', title: 'This request is incomplete',
    lines: ['The app sent something this window does not understand. Nothing was allowed.', 'Go back to the app and try again.'],
  },
  auth: {
    sign: '!', tone: 'warn', title: 'This request is no longer valid',
    lines: ['The app’s session has ended or was not valid. Nothing was allowed.', 'Go back to the app and try again.'],
  },
  modes: { sign: '!', tone: 'warn', title: 'The app mixes test and live', lines: ['{message}'] },
  spent: {
    sign: '!', tone: 'warn', title: 'This request was already used',
    lines: ['Each request opens one window. Nothing more was allowed.', 'Go back to the app and try again.'],
  },
  elsewhere: {
    sign: '!', tone: 'warn', title: 'Opened somewhere else',
    lines: ['This request belongs to another browser or is too old. Nothing was allowed here.', 'Go back to the app and try again.'],
  },
  expired: {
    sign: '!', tone: 'warn', title: 'This request has expired',
    lines: ['It was not answered in time. Nothing was allowed.', 'Go back to the app and connect again.'],
  },
  answered: { sign: '✓', title: 'Already answered', lines: ['{message}', 'You can close this window.'] },
  closed: { sign: '!', tone: 'warn', title: 'This app is closed', lines: ['Nothing can be connected to it any more. Nothing was allowed.'] },
  cookies: {
    sign: '!', tone: 'warn', title: 'Cookies are blocked here', retry: true,
    lines: ['One cookie of this site makes sure that only you, in this browser, can say yes. Allow cookies for {host} and try again.'],
  },
  cooldown: { sign: '✕', tone: 'warn', title: 'You said no twice', lines: ['{message}', 'Nothing was allowed.'] },
  rate_limited: { sign: '…', tone: 'warn', title: 'Too many requests', lines: ['{message}'], retry: true },
  offline: { sign: '!', tone: 'warn', title: 'You seem to be offline', lines: ['This window cannot reach {host}. Nothing was changed.'], retry: true },
  unavailable: { sign: '!', tone: 'warn', title: 'Back in a moment', lines: ['{host} cannot answer right now. Nothing was changed.'], retry: true },
  unknown: { sign: '!', tone: 'warn', title: 'That did not work', lines: ['{message}'], retry: true },
  approved: { sign: '✓', title: '{app} is connected', lines: ['{what}. You can change or stop it any time at {host}.', 'You can close this window.'] },
  granted: { sign: '✓', title: '{app} may go on', lines: ['{said} You can end it any time at {host}.', 'You can close this window.'] },
  denied: { sign: '✕', tone: 'warn', title: 'Not allowed', lines: ['{app} gets nothing. You can close this window.'] },
  funding: { sign: '!', tone: 'warn', title: 'No key was saved', lines: ['{message}', 'You can close this window and go on in the other one.'] },
  answered_funding: { sign: '✓', title: 'Your key is saved', lines: ['Go on in the other window. You can close this one.'] },
  returning: { sign: '✓', title: 'Going back to {app}…', lines: ['{app} finishes connecting there.'] },
}
const WAITING = new Set(['opening', 'verifying'])

/**
 * Warn what leaving the wallet would lose, and ask for confirmation.
 * @param {{keep: () => void, leave: () => void}} ways
 */
export function warnOfLoss({ keep, leave }) {
  show(h('section', { class: 'state', 'data-state': 'last_way' },
    h('div', { class: 'sign warn', 'aria-hidden': 'true' }, '!'),
    h('h1', {}, 'Nothing could bring this budget back'),
    h('div', { class: 'stack', role: 'status' },
      h('p', { class: 'soft' }, 'Its key was pasted, and no other browser is in it. Its apps would go on spending, up to their caps, and nobody could see or stop them here.'),
      h('p', { class: 'soft' }, 'Stop them on the dashboard first, or connect OpenRouter there: with that you find the budget again anywhere.')),
    h('div', { class: 'row' },
      h('button', { type: 'button', class: 'act', onclick: keep }, 'Keep it'),
      h('button', { type: 'button', onclick: leave }, 'Leave it anyway'))))
}

/**
 * Show a screen by name; an unknown name shows `unknown`.
 * @param {string} name
 * @param {{message?: string, app?: string, what?: string, said?: string, retry?: () => void}} [words]
 */
export function screen(name, words = {}) {
  const known = SCREENS[name] ?? SCREENS.unknown
  if (!known) return
  const host = document.getElementById('main')?.dataset.host ?? ''
  const fill = (/** @type {string} */ text) =>
    text.replace(/\{(\w+)\}/g, (_, key) => (key === 'host' ? host : apart(String(/** @type {Record<string, unknown>} */ (words)[key] ?? ''))))
  const isWaiting = WAITING.has(name)
  show(
    h('section', { class: 'state', 'data-state': SCREENS[name] ? name : 'unknown' },
      isWaiting
        ? h('div', { class: 'wait', 'aria-hidden': 'true' })
        : h('div', { class: `sign ${known.tone ?? ''}`, 'aria-hidden': 'true' }, known.sign ?? '!'),
      h('h1', {}, fill(known.title)),
      h('div', { class: 'stack', role: known.tone === 'bad' ? 'alert' : 'status' },
        ...known.lines.map((line) => h('p', { class: 'soft' }, fill(line)))),
      !isWaiting && h('div', { class: 'row' },
        known.retry && words.retry && h('button', { type: 'button', class: 'act', onclick: words.retry }, 'Try again'),
        h('button', { type: 'button', onclick: () => window.close() }, 'Close window')),
      // The SDK reports the same code to the app as `reason`.
      known.tone && name !== 'denied' && h('p', { class: 'code soft' }, 'For whoever builds the app: ', h('code', {}, name))),
  )
}
