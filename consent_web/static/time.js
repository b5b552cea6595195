/** Warns two minutes before an attempt expires and offers an extension, without redrawing the question. */
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

/** Showing or hiding moves the page under the pointer, so Allow must wait again. @param {boolean} isHidden */
function hide(isHidden) {
  clearTimeout(hiding)
  if (place.hidden === isHidden) return
  place.hidden = isHidden
  disarm()
}

/** The end of a grant in local time: `14:05 today`. @param {number} endMs */
export function until(endMs) {
  const end = new Date(endMs)
  const isToday = end.toDateString() === new Date().toDateString()
  return `${end.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })} ${isToday ? 'today' : 'tomorrow'}`
}

/** Stop watching: there is no open attempt any more. */
export function forgetTime() {
  clearInterval(timer)
  hide(true)
}

/**
 * Watch an attempt's remaining time. `left`: the server's remaining seconds, as of now.
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
