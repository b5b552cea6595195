/**
 * Protects Allow against accidents and clickjacking: the app that opened this window chooses its size and position, may
 * change its fragment, and may make a person click at one spot or hold a key. Rule: Allow needs one press by a person that
 * began after this window had been in front, unchanged and without input for a moment, and after the app's name, origin,
 * sentence and amount had been in view.
 */

/** @typedef {'ready' | 'wait' | 'small' | 'unread' | 'move'} Why why Allow is disabled, or `ready` */

// Longer than a double click takes or a person needs to stop clicking; short enough not to be noticed.
const STILL_MS = 800
// In screen pixels, which page zoom does not change. In a smaller window the question does not fit.
const LEAST_WIDTH = 280
const LEAST_HEIGHT = 320
// The fraction of each part that must have been in view; not 1, because edges are rounded to whole pixels.
const IN_VIEW = 0.9
// In CSS pixels: farther than a hand shakes while it clicks at one spot.
const TRAVEL = 24

/** When Allow may first be used, by `performance.now()`. */
let readyMs = Infinity
let timer = 0
/** The parts of the question that have not been in view yet. @type {Set<Element>} */
const unread = new Set()
/** @type {((why: Why) => void) | null} */
let tell = null
/** How far the mouse has moved since this window came to the front, in CSS pixels. */
let travel = 0
/** @type {{x: number, y: number} | null} */
let at = null
/** The last press, and whether Allow was enabled when it began. @type {{isMouse: boolean, isFair: boolean} | null} */
let press = null
/** Whether the last press came from a mouse that had not moved: the page then asks to move it. */
let isStuck = false

/** Restart the wait: called whenever the content under the pointer may have changed. */
export function disarm() {
  readyMs = performance.now() + STILL_MS
  clearTimeout(timer)
  timer = setTimeout(() => tell?.(why()), STILL_MS + 20)
  tell?.(why())
}

/** Why Allow is disabled now. @returns {Why} */
export function why() {
  // Web views in apps report no outer size.
  if (Math.max(outerWidth, innerWidth) < LEAST_WIDTH || Math.max(outerHeight, innerHeight) < LEAST_HEIGHT) return 'small'
  if (unread.size) return 'unread'
  const isStill = performance.now() >= readyMs && document.visibilityState === 'visible' && document.hasFocus()
  if (!isStill) return 'wait'
  return isStuck ? 'move' : 'ready'
}

/** Whether Allow is enabled now. */
export function isArmed() {
  const now = why()
  return now === 'ready' || now === 'move'
}

/**
 * Whether this click is a person's deliberate answer. A click without a press comes from a screen reader.
 * @param {Event} event
 */
export function isMeant(event) {
  if (!event.isTrusted || !isArmed()) return false
  if (!press) return /** @type {PointerEvent} */ (event).pointerType === ''
  isStuck = press.isMouse && travel < TRAVEL
  const isFair = press.isFair && !isStuck
  if (!isFair) disarm()
  return isFair
}

/**
 * Call `change` whenever the reason why Allow is disabled changes. `parts` must be in view first.
 * @param {(why: Why) => void} change
 * @param {Element[]} parts
 */
export function watch(change, parts) {
  observer.disconnect()
  unread.clear()
  for (const part of parts) {
    unread.add(part)
    observer.observe(part)
  }
  tell = change
  changed()
}

const observer = new IntersectionObserver((entries) => {
  for (const { target, intersectionRect, boundingClientRect: { width, height } } of entries) {
    // With large text a part may be taller than its scroll container: it counts once it fills the container.
    let whole = height
    for (let up = target.parentElement; up; up = up.parentElement) whole = Math.min(whole, up.clientHeight || whole)
    const isSeen = whole > 0 && intersectionRect.height >= whole * IN_VIEW && intersectionRect.width >= width * IN_VIEW
    if (isSeen && unread.delete(target)) observer.unobserve(target)
  }
  tell?.(why())
}, { threshold: Array.from({ length: 21 }, (_, step) => step / 20) })

/** @param {KeyboardEvent | PointerEvent} event */
function pressed(event) {
  if (!event.isTrusted) return
  const isKey = event instanceof KeyboardEvent
  const isRepeat = isKey && event.repeat
  const isFair = !isRepeat && isArmed()
  press = { isMouse: !isKey && event.pointerType === 'mouse', isFair }
  // Input of any kind during the wait, and a held key, restart the wait.
  if (!isFair) disarm()
}
addEventListener('keydown', pressed, true)
addEventListener('pointerdown', pressed, true)
// A press counts for one click only: a further click needs a new press.
addEventListener('click', () => setTimeout(() => { press = null }), true)
addEventListener('pointermove', (event) => {
  if (!event.isTrusted) return
  // A resting mouse under the new window is reported at once; a mouse that is first reported later has moved in.
  travel += at ? Math.hypot(event.screenX - at.x, event.screenY - at.y) : isArmed() ? TRAVEL : 0
  at = { x: event.screenX, y: event.screenY }
  if (isStuck && travel >= TRAVEL) {
    isStuck = false
    tell?.(why())
  }
}, true)

/** The window came to the front or changed: discard what mouse and keys did before. */
function changed() {
  travel = 0
  at = null
  isStuck = false
  if (press) press.isFair = false
  disarm()
}
for (const name of ['focus', 'blur', 'resize']) addEventListener(name, changed)
document.addEventListener('visibilitychange', changed)
// The opener can change this window's fragment, which scrolls and moves the focus.
addEventListener('hashchange', () => {
  history.replaceState(history.state, '', location.pathname)
  if (document.activeElement instanceof HTMLElement) document.activeElement.blur()
  changed()
})
