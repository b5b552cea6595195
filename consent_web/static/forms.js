/** Sends the browser's secret with each form of the dashboard. Without it, forms that only take away still work. */
import { secret } from './secret.js'

for (const field of document.querySelectorAll('input[name=secret]')) /** @type {HTMLInputElement} */ (field).value = secret()
