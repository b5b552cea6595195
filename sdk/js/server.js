/**
 * Wattfare for the backend: models that the app's user pays for, sessions for the page, typed errors.
 *
 * It needs only `fetch`, no Node API. The AI SDK's provider is an optional peer dependency, needed by `model()`.
 *
 * @import { ConnectionStatus } from './client.js'
 * @import { CreatedSession, GrantStatus, LanguageModel, OpenAIOptions, SessionRequest, SessionUser, WattfareOptions }
 *   from './server.js'
 */

import { WattfareAuthError, WattfareError, WattfareNetworkError, toWattfareError } from './client.js';

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

// Imported here because `model()` is synchronous. Without the AI SDK everything else works.
const provider = await import('@ai-sdk/openai-compatible').catch(() => null);

const CALL_MS = 15_000;
/** In a header an ASCII id is sent as it is, unless it would be read as percent-encoded UTF-8 or trimmed by HTTP. */
const MISREAD = /%[89a-f][0-9a-f]|^ | $/i;

export class Wattfare {
  #secretKey;
  #base;
  #fetch;

  /** @param {WattfareOptions} options */
  constructor(options) {
    const { secretKey, baseURL = 'https://wattfare.com', fetch: own } = options ?? {};
    if (typeof secretKey !== 'string' || !secretKey.startsWith('sk_'))
      throw new WattfareAuthError('secretKey must start with sk_. It is your backend’s: keep it out of pages.', 'auth', 401);
    this.#secretKey = secretKey;
    this.#base = `${baseURL.replace(/\/+$/, '').replace(/(\/api)?\/v1$/, '')}/api/v1`;
    // Wrapped in a function: fetch needs its own `this` in some runtimes, and may be replaced later.
    this.#fetch = own ?? ((/** @type {Parameters<typeof fetch>} */ ...asked) => fetch(...asked));
  }

  /** A user as the payer. @param {string} appUserId your app's id of the user */
  user(appUserId) {
    const id = checkedId(appUserId);
    const query = `?appUserId=${encodeURIComponent(id)}`;
    return {
      ...this.#paidBy(() => ({ 'x-wattfare-user': inHeader(id) })),
      /** @returns {Promise<ConnectionStatus>} */
      status: () => this.#call('GET', `status${query}`),
      /** @returns {Promise<void>} */
      disconnect: () => this.#call('DELETE', `connections${query}`),
    };
  }

  /** A grant as the payer: a few requests approved by a visitor. @param {string} grantToken from `requestGrant()` */
  grant(grantToken) {
    const headers = { 'x-wattfare-grant': grantToken };
    return {
      ...this.#paidBy(() => headers),
      /** @returns {Promise<GrantStatus>} */
      status: () => this.#call('GET', 'grants', { headers }),
    };
  }

  /**
   * Create a session for this user's page.
   * @param {string} appUserId
   * @param {SessionRequest} [request]
   * @returns {Promise<CreatedSession>}
   */
  createSession(appUserId, request) {
    return this.#call('POST', 'sessions', { body: { ...request, appUserId: checkedId(appUserId) } });
  }

  /**
   * Return a handler for the page's `session` URL, for any framework with the standard Request and Response.
   * @template {any[]} R
   * @param {(request: Request, ...rest: R) => SessionUser | Promise<SessionUser>} resolveUser who is signed in
   * @param {SessionRequest} [request] for every session
   * @returns {(request: Request, ...rest: R) => Promise<Response>}
   */
  sessionHandler(resolveUser, request) {
    return async (asked, ...rest) => {
      if (asked.method !== 'POST')
        return refusal(new WattfareError('Use POST here.', 'invalid_request', 405), { allow: 'POST' });
      try {
        const user = await resolveUser(asked, ...rest);
        if (!user) throw new WattfareAuthError('Sign in first.', 'auth', 401);
        const { appUserId, ...more } = typeof user === 'string' ? { appUserId: user } : user;
        return answer(await this.createSession(appUserId, { ...request, ...more }), 200);
      } catch (error) {
        const ours = toWattfareError(error);
        if (!ours) throw error;
        return refusal(ours);
      }
    };
  }

  /** @param {() => Record<string, string>} payer its header */
  #paidBy(payer) {
    return {
      /** A model of the AI SDK. @param {string} modelId such as `openai/gpt-4o-mini` @returns {LanguageModel} */
      model: (modelId) => {
        if (!provider) throw new WattfareError('model() stands on the AI SDK: npm i @ai-sdk/openai-compatible zod');
        const made = provider.createOpenAICompatible({
          name: 'wattfare',
          baseURL: this.#base,
          apiKey: this.#secretKey,
          headers: payer(),
          fetch: this.#fetch,
          includeUsage: true,
          supportsStructuredOutputs: true,
          metadataExtractor: { extractMetadata: async ({ parsedBody }) => cost(parsedBody), createStreamExtractor },
        });
        return obedient(made.chatModel(modelId));
      },
      /** Options for `new OpenAI()` and compatible libraries. @returns {OpenAIOptions} */
      openaiOptions: () => ({
        apiKey: this.#secretKey,
        baseURL: this.#base,
        defaultHeaders: payer(),
        fetch: this.#fetch,
      }),
    };
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {{body?: object, headers?: Record<string, string>}} [more]
   */
  async #call(method, path, { body, headers } = {}) {
    /** @type {Response} */
    let response;
    let text;
    try {
      response = await this.#fetch(`${this.#base}/${path}`, {
        method,
        headers: {
          authorization: `Bearer ${this.#secretKey}`,
          ...(body && { 'content-type': 'application/json' }),
          ...headers,
        },
        body: body && JSON.stringify(body),
        signal: AbortSignal.timeout(CALL_MS),
      });
      text = await response.text();
    } catch (cause) {
      throw new WattfareNetworkError(`${this.#base} cannot be reached.`, 'network', 0, { cause });
    }
    const { ok, status } = response;
    if (status === 204) return undefined;
    const found = parsed(text);
    if (ok && found) return found;
    const refused = toWattfareError({ status, error: found?.error });
    throw refused ?? new WattfareError(`${this.#base} answered ${status}. Is baseURL the gateway's?`, 'unknown', status);
  }
}

/** @param {unknown} id */
function checkedId(id) {
  if (typeof id !== 'string' || !id) throw new WattfareError('appUserId must be a string, your own id of the user.', 'invalid_request', 422);
  return id;
}

/** @param {string} id */
function inHeader(id) {
  const isPlain = /^[ -~]*$/.test(id);
  if (isPlain && MISREAD.test(id))
    throw new WattfareError('A header cannot carry this appUserId: it looks percent-encoded, or begins or ends with a blank.', 'invalid_request', 422);
  return isPlain ? id : encodeURIComponent(id);
}

/**
 * Return the cost in an answer or in the last chunk of a stream.
 * @param {any} body
 */
function cost(body) {
  const { cost: costUsd, cost_details: costDetails } = body?.usage ?? {};
  return typeof costUsd === 'number' ? { wattfare: { costUsd, ...(costDetails && { costDetails }) } } : undefined;
}

function createStreamExtractor() {
  /** @type {ReturnType<typeof cost>} */
  let found;
  return {
    processChunk: (/** @type {unknown} */ chunk) => void (found = cost(chunk) ?? found),
    buildMetadata: () => found,
  };
}

/**
 * The AI SDK retries after any 502, even if the request was sent and may be billed; follow `x-should-retry` instead.
 * @template {LanguageModel} M
 * @param {M} model
 */
function obedient(model) {
  /** @param {'doGenerate' | 'doStream'} name */
  function marked(name) {
    const ask = /** @type {(asked: any) => PromiseLike<any>} */ (model[name]);
    return async (/** @type {any} */ asked) => {
      try {
        return await ask.call(model, asked);
      } catch (error) {
        const told = /** @type {any} */ (error)?.responseHeaders?.['x-should-retry'];
        if (told) Object.assign(/** @type {object} */ (error), { isRetryable: told === 'true' });
        throw error;
      }
    };
  }
  return Object.assign(model, { doGenerate: marked('doGenerate'), doStream: marked('doStream') });
}

/** @param {unknown} body @param {number} status @param {Record<string, string>} [headers] */
function answer(body, status, headers) {
  return Response.json(body, { status, headers: { 'cache-control': 'no-store', ...headers } });
}

/** @param {WattfareError} error @param {Record<string, string>} [headers] */
function refusal(error, headers) {
  return answer(error.toJSON(), error.status || 502, headers);
}

/** @param {string} text @returns {any} */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
