/** Adds the browser's secret to each form of the dashboard. Without it only forms that lower possible spend work. */
import { secret } from './secret.js'

for (const field of document.querySelectorAll('input[name=secret]')) /** @type {HTMLInputElement} */ (field).value = secret()
