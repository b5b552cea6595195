/** The dashboard's form for pasting a key. */
import { pasteForm } from './key_field.js'
import { ask } from './wire.js'

const place = /** @type {HTMLElement} */ (document.getElementById('paste-form'))
const csrf = document.querySelector('meta[name=csrf]')?.getAttribute('content') ?? ''

place?.append(pasteForm({
  help: place.dataset.help ?? '',
  save: (key, way) => ask('/fund/key', { key, ...(way && { way }) }, csrf),
  saved: () => location.reload(),
}))
