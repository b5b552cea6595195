/**
 * Keeps Allow from being clicked by accident or trick: an app may open this window under a finger that is already
 * double-clicking. Allow works once the window was in front, unchanged, for a moment, and the person has moved.
 */

// Longer than a double click takes and than a person needs to let go of one; short enough not to be noticed.
const STILL_MS = 800

/** When Allow may first be used, by `performance.now()`. */
let ready = Infinity
let hasMoved = false
/** @type {(() => void) | null} */
let tell = null
let timer = 0

/** Start over: called whenever what is under the pointer may have changed. */
export function disarm() {
  ready = performance.now() + STILL_MS
  clearTimeout(timer)
  timer = setTimeout(() => tell?.(), STILL_MS + 20)
  tell?.()
}

/** Whether Allow may be used now. */
export function isArmed() {
  return performance.now() >= ready && document.visibilityState === 'visible' && document.hasFocus()
}

/**
 * Whether this click is a person's, after the wait.
 * @param {Event} event
 */
export function isMeant(event) {
  return event.isTrusted && hasMoved && isArmed()
}

/**
 * Call `change` whenever Allow becomes ready or stops being so.
 * @param {() => void} change
 */
export function watch(change) {
  tell = change
  disarm()
}

const moved = () => {
  hasMoved = true
}
for (const name of ['focus', 'resize']) addEventListener(name, disarm)
document.addEventListener('visibilitychange', disarm)
// A finger does not hover: its touch counts as the movement.
for (const name of ['pointermove', 'pointerdown', 'keydown']) {
  addEventListener(name, (event) => {
    if (event.isTrusted && (name !== 'pointerdown' || /** @type {PointerEvent} */ (event).pointerType !== 'mouse')) moved()
  }, true)
}
