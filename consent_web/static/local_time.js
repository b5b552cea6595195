/** Shows each time in the payer's time zone, with UTC in the title. */

const near = new Intl.DateTimeFormat(undefined, { month: 'short', day: 'numeric', hour: 'numeric', minute: '2-digit' })
const far = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' })
const year = new Date().getFullYear()

for (const time of document.querySelectorAll('time[datetime]')) {
  const moment = new Date(time.getAttribute('datetime') ?? '')
  if (Number.isNaN(moment.getTime())) continue
  time.setAttribute('title', time.textContent ?? '')
  time.textContent = (moment.getFullYear() === year ? near : far).format(moment)
}
