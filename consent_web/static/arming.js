/**
 * Keeps Allow from being pressed by accident or trick: the app that opened this window chooses its size and place, may
 * change its fragment, and may have a person tap at one spot or hold a key. Rule: Allow takes one press, of a person,
 * that began when this window had been in front, unchanged and without any input for a moment, and after name, origin,
 * sentence and amount had been in view.
 */

/** @typedef {'ready' | 'wait' | 'small' | 'unread' | 'move'} Why what keeps Allow from working */

// Longer than a double click takes and than a person needs to let go of one; short enough not to be noticed.
const STILL_MS = 800
// In screen pixels, which zooming the page does not change. Below this the question does not fit beside the window's own bars.
const LEAST_WIDTH = 280
const LEAST_HEIGHT = 320
// How much of each part must have been in view. Edges are rounded to whole pixels, so never ask for all of it.
const IN_VIEW = 0.9
// Farther than a hand shakes while it taps at one spot, in CSS pixels.
const TRAVEL = 24

/** When Allow may first be used, by `performance.now()`. */
let readyMs = Infinity
let timer = 0
/** The parts of the question that nobody has seen yet. @type {Set<Element>} */
const unread = new Set()
/** @type {((why: Why) => void) | null} */
let tell = null
/** How far the mouse moved since this window came to the front. */
let travel = 0
/** @type {{x: number, y: number} | null} */
let at = null
/** The last press: whether Allow worked when it began. @type {{isMouse: boolean, isFair: boolean} | null} */
let press = null
/** A press came from a mouse that had not moved: say what to do about it. */
let isStuck = false

/** Start over: called whenever what is under the pointer may have changed. */
export function disarm() {
  readyMs = performance.now() + STILL_MS
  clearTimeout(timer)
  timer = setTimeout(() => tell?.(why()), STILL_MS + 20)
  tell?.(why())
}

/** What keeps Allow from working now. @returns {Why} */
export function why() {
  // Web views inside apps tell no outer size.
  if (Math.max(outerWidth, innerWidth) < LEAST_WIDTH || Math.max(outerHeight, innerHeight) < LEAST_HEIGHT) return 'small'
  if (unread.size) return 'unread'
  const isStill = performance.now() >= readyMs && document.visibilityState === 'visible' && document.hasFocus()
  if (!isStill) return 'wait'
  return isStuck ? 'move' : 'ready'
}

/** Whether Allow may be used now. */
export function isArmed() {
  const now = why()
  return now === 'ready' || now === 'move'
}

/**
 * Whether this click is a person's answer to what they saw. A click without any press is a screen reader's.
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
 * Call `change` whenever what keeps Allow from working changes. `parts` have to be seen first.
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
    // Large text may make a part longer than what it scrolls in: it then counts once it fills that.
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
  // Early input of any kind, and a key that is held, start the wait anew.
  if (!isFair) disarm()
}
addEventListener('keydown', pressed, true)
addEventListener('pointerdown', pressed, true)
// After its click a press is over: what comes without a new one is not the same person's hand.
addEventListener('click', () => setTimeout(() => { press = null }), true)
addEventListener('pointermove', (event) => {
  if (!event.isTrusted) return
  // A mouse that stands still where this window opens is reported at once: one that is first heard of later came in.
  travel += at ? Math.hypot(event.screenX - at.x, event.screenY - at.y) : isArmed() ? TRAVEL : 0
  at = { x: event.screenX, y: event.screenY }
  if (isStuck && travel >= TRAVEL) {
    isStuck = false
    tell?.(why())
  }
}, true)

/** The window came to the front, or changed: what mouse and keys did before says nothing. */
function changed() {
  travel = 0
  at = null
  isStuck = false
  if (press) press.isFair = false
  disarm()
}
for (const name of ['focus', 'blur', 'resize']) addEventListener(name, changed)
document.addEventListener('visibilitychange', changed)
// Whoever opened this window can change its fragment, which scrolls and moves the focus.
addEventListener('hashchange', () => {
  history.replaceState(history.state, '', location.pathname)
  if (document.activeElement instanceof HTMLElement) document.activeElement.blur()
  changed()
})
