/**
 * Wattfare for the browser: opens the consent window, and reports the payer's decision to the app.
 *
 * Rule: messages are exchanged only with the window opened here, on the consent origin, with the nonce made here. The
 * outcome is what the server says, never `closed`: a page with COOP sees its open popup as closed.
 *
 * It is a single file, so that a page can import it from /sdk/ with one request.
 *
 * @import { AttemptAnswer, ConnectionStatus, ConnectOptions, ConnectResult, CreateOptions, Events,
 *   GrantOptions, GrantResult, Reason, Wattfare, WattfareErrorCode } from './client.js'
 */

const SESSION_MS = 10_000;
const CALL_MS = 15_000;
const CONNECT_MS = 600_000;
/** A token is renewed this long before it expires, so that it is still valid when the consent page uses it. */
const EARLY_MS = 30_000;
const LOOK_MS = 300;
const ASK_CLOSED_MS = 2_500;
const ASK_OPEN_MS = 10_000;
/** How long to wait for an approval that was on its way to the server when the window closed. */
const GRACE_MS = 2_000;
/** The promise settles within this time after the window closed, even if no server answers. */
const SETTLED_MS = 4_500;
/** The most objects that are searched for an error: real ones have a handful of wrappers. */
const MOST_LOOKS = 99;
const STORED = 'wattfare:';

/** The server's answer for a user without a connection. */
const NOT_CONNECTED = { connected: false, limits: null, usage: { monthlyUsd: 0 }, remainingUsd: 0 };

/** Codes with a class of their own. @type {Record<string, string>} */
const KINDS = {
  not_connected: 'NotConnected',
  budget_exceeded: 'BudgetExceeded',
  funding_invalid: 'Funding',
  rate_limited: 'RateLimit',
  grant_invalid: 'Grant',
  auth: 'Auth',
  network: 'Network',
};
/** Codes that the server sends; an error object with any other `code` is not Wattfare's. */
const SENT = [...Object.keys(KINDS), 'invalid_request', 'upstream', 'consent_required', 'unavailable', 'unknown'];

export class WattfareError extends Error {
  /** A subclass's code. @type {WattfareErrorCode | undefined} */
  static code;

  /**
   * @param {string} message
   * @param {WattfareErrorCode} [code]
   * @param {number} [status]
   * @param {{cause?: unknown, details?: object, retry?: (options?: ConnectOptions) => Promise<any>}} [more]
   */
  constructor(message, code, status = 0, { cause, details, retry } = {}) {
    super(message, { cause });
    /** @type {WattfareErrorCode} */
    this.code = code ?? new.target.code ?? 'unknown';
    this.status = status;
    this.name = `Wattfare${KINDS[this.code] ?? ''}Error`;
    /** @type {any} */
    this.details = details;
    this.retry = retry;
  }

  /** @returns {{ error: { code: WattfareErrorCode, message: string } & Record<string, any> }} */
  toJSON() {
    return { error: this.details ?? { code: this.code, message: this.message } };
  }

  /**
   * Compares name and code, because two copies of this file on one page define two classes.
   * @param {any} value
   */
  static [Symbol.hasInstance](value) {
    return /^Wattfare\w*Error$/.test(value?.name) && (this.code ? value.code === this.code : 'code' in value);
  }
}

/** @param {WattfareErrorCode} code */
const kind = (code) =>
  class extends WattfareError {
    static code = code;
  };
export const WattfareNotConnectedError = /* @__PURE__ */ kind('not_connected');
export const WattfareBudgetExceededError = /* @__PURE__ */ kind('budget_exceeded');
export const WattfareFundingError = /* @__PURE__ */ kind('funding_invalid');
export const WattfareRateLimitError = /* @__PURE__ */ kind('rate_limited');
export const WattfareGrantError = /* @__PURE__ */ kind('grant_invalid');
export const WattfareAuthError = /* @__PURE__ */ kind('auth');
export const WattfareNetworkError = /* @__PURE__ */ kind('network');

/**
 * Return the Wattfare error inside an exception of a library or an answer of a server, or null: looks through the
 * wrappers of the AI SDK, the OpenAI SDK and axios, and through AggregateError.
 * @param {any} error
 * @returns {WattfareError | null}
 */
export function toWattfareError(error) {
  return unwrap(error, 0, new Set());
}

/** @param {unknown} error */
export function isBudgetExceeded(error) {
  return toWattfareError(error)?.code === 'budget_exceeded';
}

/** Also true when the funding key is refused: connecting solves both. @param {unknown} error */
export function isNotConnected(error) {
  return ['not_connected', 'funding_invalid'].includes(/** @type {string} */ (toWattfareError(error)?.code));
}

/**
 * @param {any} error
 * @param {number} status of the wrapper
 * @param {Set<object>} seen the objects already searched, so that cycles end
 * @returns {WattfareError | null}
 */
function unwrap(error, status, seen) {
  if (typeof error === 'string' && error.startsWith('{')) error = parsed(error);
  if (!error || typeof error !== 'object' || seen.has(error) || seen.size > MOST_LOOKS) return null;
  if (error instanceof WattfareError) return error;
  seen.add(error);
  status = error.status ?? error.statusCode ?? status;
  const { error: inner, responseBody, response, errors, lastError, data, cause, code, message } = error;
  for (const next of [inner, responseBody, response, lastError, data, cause].concat(errors)) {
    const found = unwrap(next, status, seen);
    if (found) return found;
  }
  return SENT.includes(code) && typeof message === 'string'
    ? new WattfareError(message, code, Number(status) || 0, { details: error })
    : null;
}

const SESSION = 'session must be a URL or a function.';

/** Codes after which a retry may succeed. @type {unknown[]} */
const TRANSIENT = ['network', 'unavailable', 'rate_limited'];

/**
 * @param {CreateOptions} options
 * @returns {Wattfare}
 */
export function createWattfare(options) {
  const { publishableKey, session, baseURL = 'https://wattfare.com', consentURL } = options ?? {};
  if (!/^pk_/.test(publishableKey)) throw new WattfareAuthError('publishableKey must start with pk_.');
  // Only grants work without a session.
  if (session !== undefined && !/^(str|fun)/.test(session && typeof session)) throw wrong(SESSION);
  const base = bare(baseURL, 'baseURL').replace(/(\/api)?\/v1$/, '');
  const consent = bare(consentURL ?? new URL(base).origin, 'consentURL');
  const consentOrigin = new URL(consent).origin;
  const inBrowser = typeof window !== 'undefined';

  /** @type {{token: string, untilMs: number} | undefined} */
  let kept;
  /** The token that a consent page has spent; it remains valid for reading. @type {string | undefined} */
  let spent;
  /** @type {Promise<string> | undefined} */
  let asking;
  /** @type {Record<string, Flow>} */
  const flows = {};
  /** @type {Set<[string, Function]>} */
  const listeners = new Set();

  /** @type {<E extends keyof Events>(event: E, detail: Events[E]) => void} */
  function emit(event, detail) {
    for (const [name, listener] of listeners) if (name === event) queueMicrotask(() => listener(detail));
  }

  /** @template {ConnectionStatus} S @param {S} status */
  function changed(status) {
    emit('change', status);
    return status;
  }

  async function askSession() {
    /** @type {any} */
    let answer;
    let status = 0;
    if (!session) throw wrong(SESSION);
    try {
      const asked =
        typeof session === 'function'
          ? Promise.resolve(session())
          : fetch(session, { method: 'POST' }).then((response) => {
              if (!response.ok) status = response.status;
              return response.text();
            });
      answer = await within(asked, SESSION_MS, () => 'no answer');
      if (status) throw status;
      if (typeof answer === 'string') answer = parsed(answer) ?? answer.trim();
      const token = answer?.token ?? answer;
      // Throws for anything but three parts with JSON in the middle.
      const { exp } = JSON.parse(atob(token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/')));
      kept = { token, untilMs: exp * 1000 - EARLY_MS };
      return token;
    } catch (cause) {
      throw new WattfareError(
        `The session endpoint gave no token (${cause}). It must answer {token}.`,
        'session_failed',
        status,
        { cause },
      );
    }
  }

  /** @param {boolean} [unspent] @returns {Promise<string>} */
  function token(unspent) {
    if (kept && kept.untilMs > Date.now() && !(unspent && kept.token === spent)) return Promise.resolve(kept.token);
    return (asking ??= askSession().finally(() => (asking = undefined)));
  }

  /** @param {unknown} [cause] */
  const unreachable = (cause) => new WattfareNetworkError(`${base} cannot be reached from this page.`, 'network', 0, { cause });

  /**
   * @param {string} method
   * @param {string} path
   * @param {string} bearer
   * @param {object} [body]
   */
  async function call(method, path, bearer, body) {
    /** @type {Response} */
    let response;
    /** @type {any} */
    let answer;
    try {
      response = await fetch(`${base}/api/v1/${path}`, {
        method,
        headers: { authorization: `Bearer ${bearer}`, ...(body && { 'content-type': 'application/json' }) },
        body: body && JSON.stringify(body),
        signal: AbortSignal.timeout(CALL_MS),
      });
      answer = parsed(await response.text());
    } catch (cause) {
      throw unreachable(cause);
    }
    const { ok, status } = response;
    if (ok && (answer || status === 204)) return answer;
    throw unwrap(answer, status, new Set()) ?? new WattfareError(`${base} answered ${status}.`, 'unknown', status);
  }

  /**
   * Call with the session token; a token refused before it expires (rotated keys, a wrong clock) is renewed once.
   * @param {string} method
   * @param {string} path
   * @param {object} [body]
   */
  async function callAsUser(method, path, body) {
    const bearer = await token();
    try {
      return await call(method, path, bearer, body);
    } catch (error) {
      if (!(error instanceof WattfareAuthError)) throw error;
      if (kept?.token === bearer) kept = undefined;
      return call(method, path, await token(), body);
    }
  }

  /** @returns {Promise<ConnectionStatus>} */
  const status = () => callAsUser('GET', 'connections');

  /**
   * Return the outcome of the running flow, or of a new one. It reaches `window.open` without an await, because browsers
   * open popups only during a click.
   * @param {'connect' | 'grant'} type
   * @param {{signal?: AbortSignal}} options
   * @param {(flow: Flow) => void} open
   * @param {(options?: any) => Promise<any>} retry
   */
  function run(type, { signal }, open, retry) {
    const aborted = () => new WattfareError('Aborted.', 'aborted', 0, { cause: signal?.reason });
    if (signal?.aborted) return Promise.reject(aborted());
    // The outcome of a closed window is still being fetched: this click opens a new window.
    const running = flows[type]?.child?.closed ? undefined : flows[type];
    running?.child?.focus();
    const flow = running ?? start(type, open, retry);
    signal?.addEventListener('abort', () => flow.fail(aborted()), { once: true });
    // A payer may take longer than the app waits: the flow continues, and its end is emitted as `change`.
    return (flow.waiting ??= within(
      flow.done,
      CONNECT_MS,
      () => new WattfareError('Not decided yet.', 'timeout', 0, { retry }),
    ).finally(() => (flow.waiting = undefined)));
  }

  /**
   * @param {'connect' | 'grant'} type
   * @param {(flow: Flow) => void} open
   * @param {(options?: any) => Promise<any>} retry
   */
  function start(type, open, retry) {
    const over = new AbortController();
    const flow = /** @type {Flow} */ ({ over: over.signal });
    flow.done = new Promise((resolve, reject) => {
      flow.end = (outcome) => {
        over.abort();
        Promise.resolve(outcome).then(resolve, reject);
      };
      flow.fail = (error) => {
        shut(flow.child);
        over.abort();
        reject(error);
      };
      if (!inBrowser) throw new WattfareError('Call this in a browser.', 'ssr');
      open(flow);
      emit('open', { type });
    });
    flow.done
      .catch((error) => emit('error', Object.assign(error, { retry })))
      .finally(() => {
        if (flows[type] === flow) delete flows[type];
        emit('close', { type });
      });
    return (flows[type] = flow);
  }

  /**
   * @param {Flow} flow
   * @param {'connect' | 'grant'} type
   * @param {Record<string, string>} fields of the consent URL
   * @param {(answer: AttemptAnswer) => any} conclude the outcome of a finished attempt
   * @param {() => any} isolated the outcome on a page that COOP isolates from its windows
   */
  function popup(flow, type, fields, conclude, isolated) {
    const nonce = random(16);
    const opened = window.open('about:blank', `wattfare_${random(9)}`, features());
    if (!opened) throw new WattfareError('The browser blocked the window. Call retry() from a click.', 'popup_blocked');
    const child = (flow.child = opened);
    explain(child);
    let sent = false;
    let greeted = false;
    let polling = false;
    let closedAtMs = 0;
    let askAtMs = Date.now() + ASK_OPEN_MS;
    /** Sent to the consent page by message, because browsers store fragments in their history. @type {string | undefined} */
    let session;
    /** The fault reported by the window. @type {Reason | undefined} */
    let fault;
    /** @type {unknown} */
    let failure;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let alarm;

    /** @param {AttemptAnswer} answer */
    function settle(answer) {
      const { state } = answer;
      if (state !== 'approved' && state !== 'denied' && state !== 'expired') return false;
      flow.end(conclude({ reason: /** @type {Reason} */ (state), ...answer }));
      return true;
    }

    const giveUp = () => settle({ state: 'denied', reason: fault || 'closed' });

    /** @param {unknown} error */
    const lose = (error) => (fault ? giveUp() : flow.fail(error));

    async function ask() {
      if (polling || !sent) return;
      polling = true;
      const { closed } = child;
      askAtMs = Date.now() + (closed ? ASK_CLOSED_MS : ASK_OPEN_MS);
      try {
        const path = `attempts/${nonce}`;
        const answer = await (type === 'grant' ? call('GET', path, publishableKey) : callAsUser('GET', path));
        if (flow.over.aborted) return;
        const late = closed && Date.now() - closedAtMs > GRACE_MS;
        // A grant's token arrives by message only, which may still be on its way.
        if ((type === 'grant' && answer.state === 'approved' && !late) || settle(answer) || !closed) return;
        const unknown = answer.state === 'unknown';
        if (unknown && !greeted && (await isIsolated())) {
          if (flow.over.aborted) return;
          clearTimeout(alarm);
          flow.end(isolated());
        } else if (unknown || late) giveUp();
      } catch (error) {
        failure = error;
        if (closed && !TRANSIENT.includes(/** @type {WattfareError} */ (error).code)) lose(error);
      } finally {
        polling = false;
      }
    }

    function look() {
      if (child.closed && !closedAtMs) {
        askAtMs = closedAtMs = Date.now();
        alarm = setTimeout(() => lose(failure ?? unreachable()), SETTLED_MS);
        if (!sent) giveUp();
      }
      if (Date.now() >= askAtMs) ask();
    }
    const looking = setInterval(look, LOOK_MS);
    flow.over.onabort = () => clearInterval(looking);
    // Timers of a background page are throttled; closing the window brings the page to the front again.
    const seen = () => {
      askAtMs = 0;
      look();
    };
    document.addEventListener('visibilitychange', seen, { signal: flow.over });
    addEventListener(
      'message',
      ({ source, origin, data }) => {
        if (source !== child || origin !== consentOrigin) return;
        if (data?.ns !== 'wattfare' || data.v !== 1 || data.nonce !== nonce) return;
        if (data.type === 'hello') {
          greeted = true;
          child.postMessage({ ns: 'wattfare', v: 1, type: 'opener', nonce, session }, consentOrigin);
        } else if (data.type === 'fault') fault = `${data.reason}`;
        else if (data.type === 'result') settle({ ...data, state: data.outcome });
      },
      { signal: flow.over },
    );

    (async () => {
      if (type === 'connect') session = spent = await token(true);
      if (child.closed) return;
      child.location.replace(address({ n: nonce, t: type, ...fields }));
      sent = true;
    })().catch(flow.fail);
  }

  /**
   * Redirect mode, for pages that cannot receive messages of a window: leave the page and return. The token is in the
   * fragment, since no message can deliver it.
   * @param {string} [returnURL]
   * @param {AbortSignal} [over]
   */
  async function leave(returnURL = withoutReturn().href, over) {
    const nonce = random(16);
    const verifier = random(32);
    const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(verifier));
    const s = (spent = await token(true));
    if (over?.aborted) return;
    const back = new URL(returnURL, location.href);
    sessionStorage.setItem(STORED + nonce, JSON.stringify({ verifier, hash: back.hash }));
    back.hash = '';
    location.assign(address({ s, n: nonce, t: 'connect', m: 'redirect', r: back.href, c: base64url(new Uint8Array(digest)) }));
    // The Back button may restore this page from the back-forward cache.
    return new Promise((resolve) =>
      addEventListener('pageshow', () => resolve({ ...NOT_CONNECTED, reason: 'closed' }), { once: true }),
    );
  }

  /** @param {Record<string, string>} fields */
  const address = (fields) => `${consent}/consent#${new URLSearchParams({ v: '1', k: publishableKey, ...fields })}`;

  /** @returns {Promise<ConnectResult | null>} */
  async function finish() {
    const { href, attempt: nonce, code, error } = withoutReturn();
    if (!nonce) return null;
    const stored = parsed(sessionStorage.getItem(STORED + nonce));
    sessionStorage.removeItem(STORED + nonce);
    history.replaceState(history.state, '', href + (stored?.hash ?? ''));
    if (!code) return { ...NOT_CONNECTED, reason: error === 'expired' ? error : 'denied' };
    if (!stored)
      throw new WattfareError('This tab did not start it. Connect again.', 'invalid_request');
    return connected(await callAsUser('POST', `attempts/${nonce}`, { code, verifier: stored.verifier }));
  }

  /** @param {AttemptAnswer} answer @returns {Promise<ConnectResult>} */
  const connected = async ({ state, reason, status: known }) =>
    state !== 'approved'
      ? { ...NOT_CONNECTED, reason }
      : changed(known && typeof known.connected === 'boolean' ? known : await status());

  /** @type {Wattfare} */
  const wattfare = {
    connect(options = {}) {
      const { mode = 'auto', returnURL } = options;
      if (!session) return status(); // rejects, before any window
      const leaves = mode === 'redirect' || (mode === 'auto' && inBrowser && crossOriginIsolated);
      return run(
        'connect',
        options,
        (flow) =>
          leaves
            ? leave(returnURL, flow.over).then(flow.end, flow.fail)
            : popup(flow, 'connect', {}, connected, mode === 'auto' ? () => leave(returnURL) : cut),
        (more) => wattfare.connect({ ...options, ...more }),
      );
    },

    requestGrant(options) {
      const { requests, maxUsd } = options ?? {};
      if (!(Number.isInteger(requests) && requests > 0) || !(maxUsd == null || maxUsd > 0))
        return Promise.reject(wrong('requests must be a whole number, maxUsd above 0.'));
      const fields = { r: `${requests}`, ...(maxUsd != null && { u: `${maxUsd}` }) };
      return run('grant', options, (flow) => popup(flow, 'grant', fields, granted, cut), () => wattfare.requestGrant(options));
    },

    status,

    async disconnect() {
      await callAsUser('DELETE', 'connections');
      changed({ ...NOT_CONNECTED });
    },

    async prepare() {
      await token(true);
    },

    resume: () => resumed,

    on(event, listener) {
      /** @type {[string, Function]} */
      const entry = [event, listener];
      listeners.add(entry);
      return () => void listeners.delete(entry);
    },
  };
  const resumed = inBrowser ? finish() : Promise.resolve(null);
  resumed.catch((error) => emit('error', error));
  return wattfare;
}

/**
 * One running connect or grant.
 * @typedef {object} Flow
 * @property {Promise<any>} done
 * @property {AbortSignal} over
 * @property {(outcome: any) => void} end
 * @property {(error: unknown) => void} fail
 * @property {Window} [child]
 * @property {Promise<any>} [waiting] the promise returned to callers
 */

/** @param {any} answer an AttemptAnswer @returns {Promise<GrantResult>} */
async function granted({ state, reason, grantToken, expiresAt }) {
  if (state !== 'approved') return { grantToken: null, expiresAt: null, reason };
  if (!grantToken) throw new WattfareGrantError('The grant token was lost.');
  return { grantToken, expiresAt };
}

/** @returns {Promise<never>} */
async function cut() {
  throw new WattfareError(
    'Cross-Origin-Opener-Policy cuts this page off from the window. Send same-origin-allow-popups.',
    'coop_isolated',
  );
}

/** @param {string} message */
const wrong = (message) => new WattfareError(message, 'invalid_request');

/** @param {string} url @param {string} name @returns {string} without trailing slashes */
function bare(url, name) {
  if (!/^https?:\/\/./.test(url)) throw wrong(`${name} must be a URL such as https://host.`);
  return url.replace(/\/+$/, '');
}

/** This page's URL without the parameters of a redirect's return, and those parameters: the last ones, if repeated. */
function withoutReturn() {
  const url = new URL(location.href);
  /** @type {{attempt?: string, code?: string, error?: string}} */
  let found = {};
  for (const [name, value] of [...url.searchParams]) {
    const [, what] = /^wattfare_(attempt|code|error)$/.exec(name) ?? [];
    if (what) found = { ...(what !== 'attempt' && found), [what]: value };
    if (what) url.searchParams.delete(name);
  }
  return { href: url.href, ...found };
}

/** Whether this page's COOP header isolates it from its popups; only a request to the page's own server shows this. */
async function isIsolated() {
  const head = await fetch(location.href, { method: 'HEAD' }).catch(() => null);
  return /^same-origin(?!-allow)/.test(head?.headers.get('cross-origin-opener-policy') ?? '');
}

/** Give the blank window the page's colours, to avoid a white flash in dark mode. @param {Window} child */
function explain({ document }) {
  document.title = 'Wattfare';
  document.documentElement.style.cssText = 'color-scheme:light dark;font:16px system-ui;padding:1em';
  document.body.textContent = 'Opening…';
}

/**
 * Chromium ignores a close() during a navigation to another site: `closed` becomes true, then false again.
 * @param {Window} [child]
 */
function shut(child) {
  for (let look = 0; look < 33; look++) setTimeout(() => child?.close(), look * LOOK_MS);
}

function features() {
  return `popup,width=420,height=680,left=${(screenX + outerWidth / 2 - 210) | 0},top=${(screenY + outerHeight / 2 - 340) | 0}`;
}

/** @param {string | null} text @returns {any} */
function parsed(text) {
  try {
    return JSON.parse(/** @type {string} */ (text));
  } catch {
    return null;
  }
}

/** @param {number} bytes */
const random = (bytes) => base64url(crypto.getRandomValues(new Uint8Array(bytes)));

/** @param {Uint8Array} bytes */
const base64url = (bytes) =>
  btoa(String.fromCharCode(...bytes)).replace(/[+/=]/g, (sign) => ({ '+': '-', '/': '_' })[sign] ?? '');

/**
 * @template T
 * @param {Promise<T>} promise
 * @param {number} ms
 * @param {() => unknown} late
 * @returns {Promise<T>}
 */
function within(promise, ms, late) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(late()), ms);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
