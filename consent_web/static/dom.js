/** Builds DOM elements from text. Rule: no HTML is ever parsed. */

/** @typedef {Node | string | null | false | undefined} Child */

/**
 * Make an element. `on…` values are listeners, `true` sets and `false` omits an attribute.
 * @param {string} tag
 * @param {Record<string, string | number | boolean | ((event: Event) => void)>} [props]
 * @param {...Child} children
 * @returns {HTMLElement}
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(props)) {
    if (typeof value === 'function') element.addEventListener(name.slice(2), value)
    else if (value !== false) element.setAttribute(name, value === true ? '' : String(value))
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false))
  return element
}

/**
 * Isolate a text (Unicode FSI, PDI), so that a right-to-left name does not reorder the sentence around it.
 * @param {string} text
 */
export const apart = (text) => `\u2068${text}\u2069`

/** A random id, which an opener cannot address by a fragment. */
export const secretId = () => `x${crypto.getRandomValues(new Uint32Array(4)).join('')}`

/**
 * Show a screen and focus its heading.
 * @param {...Child} children
 */
export function show(...children) {
  const main = /** @type {HTMLElement} */ (document.getElementById('main'))
  main.replaceChildren(...children.filter((child) => child !== null && child !== undefined && child !== false))
  main.scrollTop = 0
  const heading = main.querySelector('h1')
  heading?.setAttribute('tabindex', '-1')
  heading?.focus({ preventScroll: true })
}

/**
 * Set the text of a live region; it is emptied first, so that screen readers repeat an unchanged text.
 * @param {HTMLElement} region
 * @param {string} text
 */
export function say(region, text) {
  region.textContent = ''
  region.textContent = text
  region.hidden = text === ''
}
