// Compiles only when server.d.ts and react.d.ts, written by hand, say what TypeScript reads from server.js and react.js.
import { streamText, type LanguageModel } from 'ai'
import type { ReactNode } from 'react'
import * as readReact from '#read/react'
import * as readServer from '#read/server'
import * as react from '#written/react'
import * as server from '#written/server'

export const reactForwards: typeof react = readReact
export const reactBackwards: typeof readReact = react
// Private fields make each class a type of its own: what they show is compared.
type Shown<Class extends abstract new (...given: any) => any> = Pick<InstanceType<Class>, keyof InstanceType<Class>>
export const serverForwards: Omit<typeof server, 'Wattfare'> = readServer
export const serverBackwards: Omit<typeof readServer, 'Wattfare'> = server
export const shownForwards = (read: Shown<typeof readServer.Wattfare>): Shown<typeof server.Wattfare> => read
export const shownBackwards = (written: Shown<typeof server.Wattfare>): Shown<typeof readServer.Wattfare> => written

// The documented snippets.
const wattfare = new server.Wattfare({ secretKey: 'sk_test_x_y' })
export const POST = wattfare.sessionHandler(async (request) => request.headers.get('x-user'), { requestLimit: { monthlyUsd: 20 } })
export async function snippets(): Promise<void> {
  const model: LanguageModel = wattfare.user('user_123').model('openai/gpt-4o-mini')
  streamText({ model, prompt: 'Hello' }).toTextStreamResponse()
  streamText({ model: wattfare.grant('gr_live_x').model('openai/gpt-4o-mini'), prompt: 'Hello' })
  const { connected, limits, usage } = await wattfare.user('user_123').status()
  const { token, expiresAt }: { token: string; expiresAt: number } = await wattfare.createSession('user_123')
  const error: server.WattfareError | null = server.toWattfareError(new Error())
  // @ts-expect-error: a key is needed
  new server.Wattfare({})
  console.log(connected, limits?.monthlyUsd, usage.monthlyUsd, token, expiresAt, error?.code, POST)
}

export function Snippet(): ReactNode {
  const { connected, status, remainingUsd, loading, error, connect, disconnect, refresh } = react.useWattfare()
  const left: number | null = remainingUsd
  console.log(connected, status?.usage.monthlyUsd, left, loading, error?.message, connect, disconnect, refresh)
  return react.ConnectButton({ className: 'x', children: 'Connect' }) ?? react.BudgetBar({ label: 'Budget' })
}
