/** Types of `wattfare/react`. tests/sdk holds them against react.js. */

import type { ButtonHTMLAttributes, HTMLAttributes, ReactElement, ReactNode } from 'react';
import type { ConnectOptions, ConnectResult, ConnectionStatus, CreateOptions, WattfareError } from './client.js';

export type { ConnectOptions, ConnectResult, ConnectionStatus, Reason, WattfareErrorCode } from './client.js';
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

export interface WattfareProviderProps extends CreateOptions {
  /** Ask for the connection when the page has loaded. Default true. */
  loadOnMount?: boolean;
  children?: ReactNode;
}

export interface UseWattfare {
  connected: boolean;
  /** Null until it was asked for. */
  status: ConnectionStatus | null;
  /** Null means unlimited (test mode only). Changes when a connection does, and on `refresh()`. */
  remainingUsd: number | null;
  /** Something is under way: the first look, `connect`, `disconnect` or `refresh`. */
  loading: boolean;
  /** What failed last; the next attempt clears it. */
  error: WattfareError | null;
  /** Call it from a click: `onClick={connect}` will do. Resolves also when the payer says no. */
  connect(options?: ConnectOptions | object): Promise<ConnectResult>;
  disconnect(): Promise<void>;
  /** Ask again, say after an answer was paid for. */
  refresh(): Promise<ConnectionStatus>;
}

export interface ConnectButtonProps extends Omit<ButtonHTMLAttributes<HTMLButtonElement>, 'onError' | 'onClick'> {
  /** Shown in its place once connected. Default nothing. */
  whenConnected?: ReactNode;
  /** What failed. Without it the message stands behind the button, as an alert. */
  onError?: (error: WattfareError) => void;
}

export interface BudgetBarProps extends Omit<HTMLAttributes<HTMLDivElement>, 'children'> {
  /** The meter's name for assistive technology. Default `AI budget`. */
  label?: string;
  /** The words beside the meter. Default `$4.20 left of $5.00 this month`. */
  format?: (status: ConnectionStatus) => string;
}

export function WattfareProvider(props: WattfareProviderProps): ReactElement;
/** Throws outside a provider. */
export function useWattfare(): UseWattfare;
/** A button without a style that opens the consent popup; `aria-busy` while it is open. */
export function ConnectButton(props: ConnectButtonProps): ReactNode;
/** A `<meter>` and words, nothing while not connected; `data-state` is `ok`, `low`, `empty` or `unlimited`. */
export function BudgetBar(props: BudgetBarProps): ReactElement | null;
