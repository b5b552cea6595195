'use client';
/**
 * Wattfare for React: a provider, a hook, and two unstyled components.
 *
 * Rule: rendering has no side effects: the client is created in the first effect or click, so that a server can render
 * and StrictMode can mount twice.
 *
 * @import { ReactElement, ReactNode } from 'react'
 * @import { ConnectOptions, ConnectionStatus, Wattfare } from './client.js'
 * @import { BudgetBarProps, ConnectButtonProps, UseWattfare, WattfareProviderProps } from './react.js'
 */

import { createContext, createElement, Fragment, useContext, useEffect, useMemo, useRef, useSyncExternalStore } from 'react';
import { createWattfare, isNotConnected } from './client.js';

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

/** A budget is low below a dollar, or below a fifth of a small cap. */
const LOW_USD = 1;
const LOW_PART = 0.2;

/** @type {ConnectionStatus} */
const NOT_CONNECTED = { connected: false, limits: null, usage: { monthlyUsd: 0 }, remainingUsd: 0 };

/** @type {import('react').Context<Store | null>} */
const Context = createContext(/** @type {Store | null} */ (null));

/** @param {WattfareProviderProps} props @returns {ReactElement} */
export function WattfareProvider({ publishableKey, session, baseURL, consentURL, loadOnMount = true, children }) {
  // An inline function is a new object at each rendering, which must not recreate the client.
  const latest = useRef(session);
  const url = typeof session === 'string' ? session : '';
  const store = useMemo(
    () =>
      createStore(
        () =>
          createWattfare({
            publishableKey,
            session: url || (() => /** @type {() => string} */ (latest.current)()),
            baseURL,
            consentURL,
          }),
        publishableKey,
        loadOnMount,
      ),
    [publishableKey, url, baseURL, consentURL, loadOnMount],
  );
  useEffect(() => {
    latest.current = session;
  });
  useEffect(() => store.mount(), [store]);
  return createElement(Context.Provider, { value: store }, children);
}

/** @returns {UseWattfare} */
export function useWattfare() {
  const store = useStore();
  const { status, ...rest } = useSyncExternalStore(store.subscribe, store.snapshot, store.initial);
  return {
    ...rest,
    status,
    connected: status?.connected ?? false,
    remainingUsd: status ? status.remainingUsd : 0,
    connect: store.connect,
    disconnect: store.disconnect,
    refresh: store.refresh,
  };
}

/** A connect button, shown while not connected. @param {ConnectButtonProps} props @returns {ReactNode} */
export function ConnectButton({ children = 'Connect AI budget', whenConnected = null, onError, ...rest }) {
  const store = useStore();
  const { connected, loading, error, connect } = useWattfare();
  if (connected) return whenConnected;
  const ready = () => store.prepare();
  const button = createElement(
    'button',
    {
      type: 'button',
      onPointerEnter: ready,
      onFocus: ready,
      ...rest,
      'aria-busy': loading,
      onClick: () => connect().catch((reason) => onError?.(reason)),
    },
    children,
  );
  const said = error && !onError ? createElement('span', { role: 'alert' }, error.message) : null;
  return createElement(Fragment, null, button, said);
}

/** The remaining budget, as a meter with text. @param {BudgetBarProps} props @returns {ReactElement | null} */
export function BudgetBar({ label = 'AI budget', format = inWords, ...rest }) {
  const { status } = useWattfare();
  if (!status?.connected) return null;
  const { limits, remainingUsd } = status;
  const cap = limits?.monthlyUsd ?? null;
  const words = format(status);
  const meter =
    cap === null || remainingUsd === null
      ? null
      : createElement('meter', { min: 0, max: cap, low: lowUsd(cap), value: remainingUsd, 'aria-label': label }, words);
  return createElement('div', { ...rest, 'data-state': stateOf(cap, remainingUsd) }, meter, createElement('span', null, words));
}

/** @typedef {ReturnType<typeof createStore>} Store */
/** @typedef {Pick<UseWattfare, 'status' | 'loading' | 'error'>} Snapshot */

function useStore() {
  const store = useContext(Context);
  if (!store) throw new Error('useWattfare must be used inside <WattfareProvider>.');
  return store;
}

/**
 * The shared state of all components below one provider. `make` creates the client and is called once, on first use.
 * @param {() => Wattfare} make
 * @param {string} key
 * @param {boolean} loadOnMount
 */
function createStore(make, key, loadOnMount) {
  /** @type {Snapshot} */
  const first = { status: null, loading: loadOnMount, error: null };
  let now = first;
  /** @type {Set<() => void>} */
  const listeners = new Set();
  /** @type {Wattfare | undefined} */
  let made;
  /** @type {BroadcastChannel | undefined} */
  let tabs;
  let isLoaded = !loadOnMount;
  let running = 0;
  let mounts = 0;

  const client = () => (made ??= make());

  /** @param {Partial<Snapshot>} change */
  function set(change) {
    now = { ...now, ...change };
    for (const listener of listeners) listener();
  }

  /**
   * The returned promise may be awaited or, as in `onClick={connect}`, ignored: the error is in the state too.
   * @template T
   * @param {(client: Wattfare) => Promise<T>} work
   * @returns {Promise<T>}
   */
  function run(work) {
    const asked = (async () => {
      running += 1;
      set({ loading: true, error: null });
      try {
        return await work(client());
      } catch (error) {
        set(isNotConnected(error) ? { status: NOT_CONNECTED } : { error: /** @type {any} */ (error) });
        throw error;
      } finally {
        running -= 1;
        set({ loading: running > 0 });
      }
    })();
    asked.catch(() => {});
    return asked;
  }

  /** @param {ConnectionStatus} status */
  function keep(status) {
    set({ status });
    return status;
  }

  /** Another tab of this app connected or disconnected. */
  const changedElsewhere = () => void refresh();
  const refresh = () => run(async (known) => keep(await known.status()));

  return {
    snapshot: () => now,
    initial: () => first,
    refresh,

    /** @param {() => void} listener */
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },

    /** Subscribe, and load the status once regardless of the number of mounts. */
    mount() {
      mounts += 1;
      const known = client();
      const off = known.on('change', keep);
      if (mounts === 1 && typeof BroadcastChannel === 'function') {
        tabs = new BroadcastChannel(`wattfare:${key}`);
        tabs.onmessage = changedElsewhere;
      }
      if (!isLoaded) {
        isLoaded = true;
        // After a redirect, read its outcome first.
        run(async () => {
          await known.resume();
          return keep(await known.status());
        });
      }
      return () => {
        off();
        mounts -= 1;
        if (mounts > 0) return;
        tabs?.close();
        tabs = undefined;
      };
    },

    prepare: () => void client().prepare().catch(() => {}),

    /** @param {ConnectOptions | object} [options] ignored if it is an event, as in `onClick={connect}` */
    connect: (options) =>
      run(async (known) => {
        const result = await known.connect(options && 'nativeEvent' in options ? {} : options);
        keep(result);
        tabs?.postMessage(null);
        return result;
      }),

    disconnect: () =>
      run(async (known) => {
        await known.disconnect();
        keep(NOT_CONNECTED);
        tabs?.postMessage(null);
      }),
  };
}

/** @param {number} cap */
const lowUsd = (cap) => Math.min(LOW_USD, cap * LOW_PART);

/** @param {number | null} cap @param {number | null} left */
function stateOf(cap, left) {
  if (cap === null || left === null) return 'unlimited';
  if (left <= 0) return 'empty';
  return left < lowUsd(cap) ? 'low' : 'ok';
}

/** @param {ConnectionStatus} status */
function inWords({ limits, remainingUsd }) {
  if (remainingUsd === null) return 'Unlimited';
  const cap = limits?.monthlyUsd;
  return `${dollars(remainingUsd)} left${cap == null ? '' : ` of ${dollars(cap)} this month`}`;
}

/** @param {number} usd */
function dollars(usd) {
  return usd > 0 && usd < 0.01 ? '< $0.01' : `$${usd.toFixed(2)}`;
}
