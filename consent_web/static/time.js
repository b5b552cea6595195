/** Says two minutes ahead that a request ends, and offers more time. What was typed stays as it is. */
import { disarm } from './arming.js'
import { h, say } from './dom.js'
import { Refusal } from './wire.js'

/** @typedef {{leftSeconds: number, mayExtend: boolean}} Left */

const TICK_MS = 1000
const WARN_MS = 120_000
const SAID_MS = 8000

const place = /** @type {HTMLElement} */ (document.getElementById('time'))
const words = h('p', { role: 'alert' })
const more = h('button', { type: 'button' }, 'More time')
place.append(words, more)
let timer = 0
let hiding = 0
/** @type {(() => void) | null} */
let press = null
more.addEventListener('click', () => press?.())

/** What moves under the pointer must not be clicked by mistake. @param {boolean} isHidden */
function hide(isHidden) {
  clearTimeout(hiding)
  if (place.hidden === isHidden) return
  place.hidden = isHidden
  disarm()
}

/** When a grant ends, by the payer's own clock: `14:05 today`. @param {number} endMs */
export function until(endMs) {
  const end = new Date(endMs)
  const isToday = end.toDateString() === new Date().toDateString()
  return `${end.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })} ${isToday ? 'today' : 'tomorrow'}`
}

/** Nothing is asked any more. */
export function forgetTime() {
  clearInterval(timer)
  hide(true)
}

/**
 * Watch the time of an attempt. `left` counts from now, by the server's clock.
 * @param {Left} left
 * @param {{extend: () => Promise<Left>, over: () => void}} ways
 */
export function watchTime(left, ways) {
  forgetTime()
  const endMs = Date.now() + left.leftSeconds * 1000
  const until = new Date(endMs).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })
  let isTold = false
  const tick = () => {
    const leftMs = endMs - Date.now()
    if (leftMs <= 0) {
      forgetTime()
      ways.over()
    } else if (leftMs <= WARN_MS && !isTold) {
      isTold = true
      warn(until, left.mayExtend, ways)
    }
  }
  timer = setInterval(tick, TICK_MS)
  tick()
}

/** @param {string} until @param {boolean} mayExtend @param {{extend: () => Promise<Left>, over: () => void}} ways */
function warn(until, mayExtend, ways) {
  more.hidden = !mayExtend
  press = async () => {
    try {
      const left = await ways.extend()
      watchTime(left, ways)
      more.hidden = true
      hide(false)
      say(words, `You have ${Math.round(left.leftSeconds / 60)} minutes more.`)
      document.querySelector('h1')?.focus({ preventScroll: true })
      hiding = setTimeout(() => hide(true), SAID_MS)
    } catch (refused) {
      say(words, refused instanceof Refusal ? refused.message : 'That did not work. Try again.')
    }
  }
  hide(false)
  say(words, mayExtend ? `Two minutes are left: this request ends at ${until}.` : `This request ends at ${until}. Then start again from the app.`)
}
