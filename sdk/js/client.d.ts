/** Types of `wattfare/client`. tests/sdk holds them against client.js. */

export interface ConnectionStatus {
  connected: boolean;
  /** The approved cap; null when there is none. */
  limits: { monthlyUsd: number | null } | null;
  /** Settled spend of the rolling month. */
  usage: { monthlyUsd: number };
  /** Limits minus usage, never below 0; null means unlimited (test mode only). */
  remainingUsd: number | null;
}

/**
 * Why there is no approval: the payer's answer, or the code of the fault shown in the consent window, such as `origin`
 * (this page's origin is not registered for the app), `auth`, `cooldown` or `offline`.
 */
export type Reason = 'denied' | 'closed' | 'expired' | (string & {});

/** The result of `connect()`. `reason` is set when the payer did not approve. */
export interface ConnectResult extends ConnectionStatus {
  reason?: Reason;
}

/** The result of `requestGrant()`. Without a token the payer did not approve, and `reason` says why. */
export interface GrantResult {
  /** For your backend, as `x-wattfare-grant`. */
  grantToken: string | null;
  /** Unix seconds. */
  expiresAt: number | null;
  reason?: Reason;
}

export type WattfareErrorCode =
  // sent by the server
  | 'auth'
  | 'not_connected'
  | 'budget_exceeded'
  | 'funding_invalid'
  | 'grant_invalid'
  | 'rate_limited'
  | 'invalid_request'
  | 'upstream'
  | 'consent_required'
  | 'unavailable'
  | 'unknown'
  // raised by this SDK
  | 'network'
  | 'session_failed'
  | 'popup_blocked'
  | 'timeout'
  | 'coop_isolated'
  | 'aborted'
  | 'ssr';

export class WattfareError extends Error {
  constructor(
    message: string,
    code?: WattfareErrorCode,
    status?: number,
    more?: { cause?: unknown; details?: object; retry?: (options?: ConnectOptions) => Promise<any> },
  );
  static code: WattfareErrorCode | undefined;
  code: WattfareErrorCode;
  /** HTTP status; 0 without an answer. */
  status: number;
  /** All members of the server's error: `requestId`, `retryAfter`, `manageUrl`, …. */
  details: any;
  /** Retries with the same options, overridden by those given here. Call it from a click. */
  retry: ((options?: ConnectOptions) => Promise<any>) | undefined;
  /** The error envelope, for your own response: `Response.json(error.toJSON(), { status: error.status || 502 })`. */
  toJSON(): { error: { code: WattfareErrorCode; message: string } & Record<string, any> };
  static [Symbol.hasInstance](value: any): boolean;
}
export class WattfareNotConnectedError extends WattfareError {
  static code: WattfareErrorCode;
}
export class WattfareBudgetExceededError extends WattfareError {
  static code: WattfareErrorCode;
}
export class WattfareFundingError extends WattfareError {
  static code: WattfareErrorCode;
}
export class WattfareRateLimitError extends WattfareError {
  static code: WattfareErrorCode;
}
export class WattfareGrantError extends WattfareError {
  static code: WattfareErrorCode;
}
export class WattfareAuthError extends WattfareError {
  static code: WattfareErrorCode;
}
export class WattfareNetworkError extends WattfareError {
  static code: WattfareErrorCode;
}

/** Returns the Wattfare error inside an exception of a library or an answer of a server, or null. */
export function toWattfareError(error: any): WattfareError | null;
export function isBudgetExceeded(error: unknown): boolean;
/** Also true for `funding_invalid`: connecting solves both. */
export function isNotConnected(error: unknown): boolean;

export interface CreateOptions {
  /** `pk_live_…` or `pk_test_…`. */
  publishableKey: string;
  /**
   * A URL of your backend that answers a POST with `{token}` or the token alone; or a function that returns either.
   * Not needed for `requestGrant()`.
   */
  session?: string | (() => SessionAnswer | Promise<SessionAnswer>);
  /** The API's URL, with or without `/v1` or `/api/v1`. Default `https://wattfare.com`. */
  baseURL?: string;
  /** The consent site's origin. Default: the origin of `baseURL`. */
  consentURL?: string;
}
export type SessionAnswer = string | { token: string };

export interface ConnectOptions {
  /** Ends the wait and closes the window. */
  signal?: AbortSignal;
  /** `auto` opens a popup, or uses a redirect on pages where a popup cannot work. */
  mode?: 'auto' | 'popup' | 'redirect';
  /** The return URL of a redirect, which must be registered for the app. Default: this page. */
  returnURL?: string;
}

export interface GrantOptions {
  /** The number of AI requests. */
  requests: number;
  /** The most that they may cost together, in US dollars. */
  maxUsd?: number;
  signal?: AbortSignal;
}

/** The server's answer about one popup. */
export interface AttemptAnswer {
  state: 'pending' | 'approved' | 'denied' | 'expired' | 'unknown';
  reason?: Reason;
  status?: ConnectionStatus;
  grantToken?: string;
  expiresAt?: number;
}

export interface Events {
  /** The connection changed: connected, disconnected, or approved after `connect()` timed out. */
  change: ConnectionStatus;
  open: { type: 'connect' | 'grant' };
  close: { type: 'connect' | 'grant' };
  error: WattfareError;
}

export interface Wattfare {
  /** Call it from a click. It also resolves when the payer denies: check `connected` and `reason`. */
  connect(options?: ConnectOptions): Promise<ConnectResult>;
  status(): Promise<ConnectionStatus>;
  disconnect(): Promise<void>;
  /** Requests a grant. Call it from a click. It also resolves when the payer denies: check `reason`. */
  requestGrant(options: GrantOptions): Promise<GrantResult>;
  /** Fetches the session token in advance, for example on hover, so that the window loads faster. */
  prepare(): Promise<void>;
  /** The outcome of a redirect; null on any other page load. `createWattfare` has already called it. */
  resume(): Promise<ConnectResult | null>;
  /** Returns a function that removes the listener. */
  on<E extends keyof Events>(event: E, listener: (detail: Events[E]) => void): () => void;
}

/** Throws `WattfareAuthError` unless the key starts with `pk_`. */
export function createWattfare(options: CreateOptions): Wattfare;
