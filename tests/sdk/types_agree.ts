// Compiles only when client.d.ts, written by hand, and what TypeScript reads from client.js say the same.
import * as read from '#read'
import * as written from '#written'

export const forwards: typeof written = read
export const backwards: typeof read = written

// The documented snippets.
const wattfare = written.createWattfare({ publishableKey: 'pk_live_x', session: '/wattfare-token' })
export async function snippets(): Promise<void> {
  const status: written.ConnectResult = await wattfare.connect({ mode: 'redirect', signal: AbortSignal.timeout(1) })
  const reason: string | undefined = status.reason
  const cap: number | null | undefined = status.limits?.monthlyUsd
  const { grantToken, expiresAt, reason: none } = await wattfare.requestGrant({ requests: 3 })
  const granted: [string | null, number | null, string | undefined] = [grantToken, expiresAt, none]
  const off: () => void = wattfare.on('change', ({ remainingUsd }) => remainingUsd?.toFixed(2))
  // @ts-expect-error: a status has no reason
  ;(await wattfare.status()).reason
  // @ts-expect-error: no such event
  wattfare.on('changed', () => {})
  // @ts-expect-error: a key is needed; a session is not, where only grants are asked for
  written.createWattfare({ session: '/wattfare-token' })
  written.createWattfare({ publishableKey: 'pk_live_x' })
  console.log(reason, cap, granted, off)
}
