/** Builds what is shown, from text alone: nothing here ever reads markup. */

/** @typedef {Node | string | null | false | undefined} Child */

/**
 * Make an element. `on…` values are listeners, `true` and `false` set and leave out an attribute.
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
 * Set words apart, so that a name written from right to left does not turn the sentence round it (Unicode FSI, PDI).
 * @param {string} text
 */
export const apart = (text) => `\u2068${text}\u2069`

/** An id that nobody outside can name in a fragment. */
export const secretId = () => `x${crypto.getRandomValues(new Uint32Array(4)).join('')}`

/**
 * Show one screen and put the reader at its heading.
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
 * Set the words of a live region, an empty text first so that the same words are read again.
 * @param {HTMLElement} region
 * @param {string} text
 */
export function say(region, text) {
  region.textContent = ''
  region.textContent = text
  region.hidden = text === ''
}
