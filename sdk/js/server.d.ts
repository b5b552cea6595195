/** Types of `wattfare/server`. tests/sdk holds them against server.js. */

import type { ConnectionStatus } from './client.js';

export type { ConnectionStatus, WattfareErrorCode } from './client.js';
export {
  WattfareAuthError,
  WattfareBudgetExceededError,
  WattfareError,
  WattfareFundingError,
  WattfareGrantError,
  WattfareNetworkError,
  WattfareNotConnectedError,
  WattfareRateLimitError,
  isBudgetExceeded,
  isNotConnected,
  toWattfareError,
} from './client.js';

export interface WattfareOptions {
  /** `sk_live_…` or `sk_test_…`. Keep it on your backend. */
  secretKey: string;
  /** Where the gateway is, with or without `/v1` or `/api/v1`. Default `https://wattfare.com`. */
  baseURL?: string;
  /** Used for every request instead of the runtime's own. */
  fetch?: typeof globalThis.fetch;
}

export interface SessionRequest {
  /** The cap that the popup opens with; the payer may choose another. */
  requestLimit?: { monthlyUsd: number };
  /** The account's name as the payer knows it, 1 to 80 characters, shown in the popup. */
  userLabel?: string;
}

export interface CreatedSession {
  token: string;
  /** Unix seconds. */
  expiresAt: number;
}

/** Your own id of who is signed in, alone or with what this session asks for; nothing when nobody is. */
export type SessionUser = string | ({ appUserId: string } & SessionRequest) | null | undefined;

export interface GrantStatus {
  requestsRemaining: number;
  requests: number;
  maxUsd: number | null;
  spentUsd: number;
  /** Unix seconds. */
  expiresAt: number;
  active: boolean;
}

/** The language model of the AI SDK that is installed. */
export type LanguageModel = ReturnType<
  ReturnType<typeof import('@ai-sdk/openai-compatible').createOpenAICompatible>['chatModel']
>;

/** Settings of OpenAI's library, and of those that take the same. */
export interface OpenAIOptions {
  apiKey: string;
  baseURL: string;
  defaultHeaders: Record<string, string>;
  fetch: typeof globalThis.fetch;
}

export interface Payer {
  /**
   * A model of the AI SDK, for `streamText`, `generateText` and all else. What it cost stands in
   * `providerMetadata.wattfare.costUsd`. Needs `@ai-sdk/openai-compatible`.
   */
  model(modelId: string): LanguageModel;
  /** `new OpenAI(wattfare.user(id).openaiOptions())`. */
  openaiOptions(): OpenAIOptions;
}

export interface WattfareUser extends Payer {
  /** The connection now; a user who never connected is `connected: false`, no error. */
  status(): Promise<ConnectionStatus>;
  /** Ends the connection, at once. */
  disconnect(): Promise<void>;
}

export interface WattfareGrant extends Payer {
  status(): Promise<GrantStatus>;
}

export class Wattfare {
  /** Throws `WattfareAuthError` unless the key starts with `sk_`. */
  constructor(options: WattfareOptions);
  user(appUserId: string): WattfareUser;
  grant(grantToken: string): WattfareGrant;
  createSession(appUserId: string, request?: SessionRequest): Promise<CreatedSession>;
  /**
   * Answers the page's `session` URL: `export const POST = wattfare.sessionHandler(async (request) => userIdOf(request))`.
   * Nobody signed in is 401. What follows the request (a framework's context) is handed to `resolveUser`.
   */
  sessionHandler<R extends any[]>(
    resolveUser: (request: Request, ...rest: R) => SessionUser | Promise<SessionUser>,
    request?: SessionRequest,
  ): (request: Request, ...rest: R) => Promise<Response>;
}
