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
  /** The gateway's URL, with or without `/v1` or `/api/v1`. Default `https://wattfare.com`. */
  baseURL?: string;
  /** Used for every request instead of the runtime's `fetch`. */
  fetch?: typeof globalThis.fetch;
}

export interface SessionRequest {
  /** The suggested cap; the payer may choose another. */
  requestLimit?: { monthlyUsd: number };
  /** The account's name as the user knows it, 1 to 80 characters, shown in the popup. */
  userLabel?: string;
}

export interface CreatedSession {
  token: string;
  /** Unix seconds. */
  expiresAt: number;
}

/** Your app's id of the signed-in user, alone or with options of this session; nothing if nobody is signed in. */
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

/** The language model type of the installed AI SDK. */
export type LanguageModel = ReturnType<
  ReturnType<typeof import('@ai-sdk/openai-compatible').createOpenAICompatible>['chatModel']
>;

/** Options of OpenAI's library and compatible ones. */
export interface OpenAIOptions {
  apiKey: string;
  baseURL: string;
  defaultHeaders: Record<string, string>;
  fetch: typeof globalThis.fetch;
}

export interface Payer {
  /**
   * A model of the AI SDK, for `streamText`, `generateText` and the like. Its cost is in
   * `providerMetadata.wattfare.costUsd`. Needs `@ai-sdk/openai-compatible`.
   */
  model(modelId: string): LanguageModel;
  /** `new OpenAI(wattfare.user(id).openaiOptions())`. */
  openaiOptions(): OpenAIOptions;
}

export interface WattfareUser extends Payer {
  /** The user's connection; a user who never connected has `connected: false`, which is no error. */
  status(): Promise<ConnectionStatus>;
  /** Ends the connection immediately. */
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
   * Handles the page's `session` URL: `export const POST = wattfare.sessionHandler(async (request) => userIdOf(request))`.
   * It answers 401 if nobody is signed in. Further arguments (a framework's context) are passed to `resolveUser`.
   */
  sessionHandler<R extends any[]>(
    resolveUser: (request: Request, ...rest: R) => SessionUser | Promise<SessionUser>,
    request?: SessionRequest,
  ): (request: Request, ...rest: R) => Promise<Response>;
}
