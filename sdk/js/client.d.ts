/** Types of `wattfare/client`. tests/sdk holds them against client.js. */

export interface ConnectionStatus {
  connected: boolean;
  /** The approved cap; null when there is none. */
  limits: { monthlyUsd: number | null } | null;
  /** Settled spend in the rolling month. */
  usage: { monthlyUsd: number };
  /** Limits minus usage, never below 0; null means unlimited (test mode only). */
  remainingUsd: number | null;
}

/**
 * Why a payer did not approve: their answer, or the code of the fault that the consent window showed, such as `origin`
 * (this page's origin is not registered for the app), `auth`, `cooldown` or `offline`.
 */
export type Reason = 'denied' | 'closed' | 'expired' | (string & {});

/** What `connect()` resolves to. `reason` is there when the payer did not approve. */
export interface ConnectResult extends ConnectionStatus {
  reason?: Reason;
}

/** What `requestGrant()` resolves to. Without a token the payer did not approve, and `reason` says why. */
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
  // made here
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
  /** HTTP status; 0 when no server answered. */
  status: number;
  /** All that a server said: `requestId`, `retryAfter`, `manageUrl`, …. */
  details: any;
  /** Tries again with the same options and those given here. Call it from a click. */
  retry: ((options?: ConnectOptions) => Promise<any>) | undefined;
  /** The envelope a server sends, to pass on: `Response.json(error.toJSON(), { status: error.status || 502 })`. */
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

/** The Wattfare error inside what a library threw or a server answered, or null. */
export function toWattfareError(error: any): WattfareError | null;
export function isBudgetExceeded(error: unknown): boolean;
/** Also true for `funding_invalid`: both are mended by connecting. */
export function isNotConnected(error: unknown): boolean;

export interface CreateOptions {
  /** `pk_live_…` or `pk_test_…`. */
  publishableKey: string;
  /**
   * A URL of your backend, POSTed to, that answers `{token}` or the token alone; or a function that returns either.
   * Only `requestGrant()` needs none.
   */
  session?: string | (() => SessionAnswer | Promise<SessionAnswer>);
  /** Where the API is, with or without `/v1` or `/api/v1`. Default `https://wattfare.com`. */
  baseURL?: string;
  /** Where the consent page is. Default: the origin of `baseURL`. */
  consentURL?: string;
}
export type SessionAnswer = string | { token: string };

export interface ConnectOptions {
  /** Ends the wait and closes the window. */
  signal?: AbortSignal;
  /** `auto` opens a popup, or leaves the page and comes back where a popup cannot work. */
  mode?: 'auto' | 'popup' | 'redirect';
  /** Where a redirect comes back to: a return URL that the app has registered. Default: this page. */
  returnURL?: string;
}

export interface GrantOptions {
  /** How many AI requests. */
  requests: number;
  /** The most they may cost together. */
  maxUsd?: number;
  signal?: AbortSignal;
}

/** What the server tells of one popup. */
export interface AttemptAnswer {
  state: 'pending' | 'approved' | 'denied' | 'expired' | 'unknown';
  reason?: Reason;
  status?: ConnectionStatus;
  grantToken?: string;
  expiresAt?: number;
}

export interface Events {
  /** The connection is another one than before: connected, disconnected, or approved after `connect()` gave up. */
  change: ConnectionStatus;
  open: { type: 'connect' | 'grant' };
  close: { type: 'connect' | 'grant' };
  error: WattfareError;
}

export interface Wattfare {
  /** Call it from a click. Resolves also when the payer says no: look at `connected` and `reason`. */
  connect(options?: ConnectOptions): Promise<ConnectResult>;
  status(): Promise<ConnectionStatus>;
  disconnect(): Promise<void>;
  /** A few requests without an account. Call it from a click. Resolves also when the payer says no: look at `reason`. */
  requestGrant(options: GrantOptions): Promise<GrantResult>;
  /** Fetches the session token ahead, say on hover, so that the window fills faster. */
  prepare(): Promise<void>;
  /** The outcome of a connect by redirect, null on any other page load. `createWattfare` has called it already. */
  resume(): Promise<ConnectResult | null>;
  /** Returns a function that ends the listening. */
  on<E extends keyof Events>(event: E, listener: (detail: Events[E]) => void): () => void;
}

/** Throws `WattfareAuthError` at once unless the key starts with `pk_`. */
export function createWattfare(options: CreateOptions): Wattfare;
