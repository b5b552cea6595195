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
  /** Load the status after the page has loaded. Default true. */
  loadOnMount?: boolean;
  children?: ReactNode;
}

export interface UseWattfare {
  connected: boolean;
  /** Null until loaded. */
  status: ConnectionStatus | null;
  /** Null means unlimited (test mode only). Changes when a connection does, and on `refresh()`. */
  remainingUsd: number | null;
  /** Whether the first load, `connect`, `disconnect` or `refresh` is running. */
  loading: boolean;
  /** The last error; the next call clears it. */
  error: WattfareError | null;
  /** Call it from a click, as in `onClick={connect}`. It also resolves when the payer denies. */
  connect(options?: ConnectOptions | object): Promise<ConnectResult>;
  disconnect(): Promise<void>;
  /** Reload the status, for example after a paid answer. */
  refresh(): Promise<ConnectionStatus>;
}

export interface ConnectButtonProps extends Omit<ButtonHTMLAttributes<HTMLButtonElement>, 'onError' | 'onClick'> {
  /** Shown instead of the button while connected. Default: nothing. */
  whenConnected?: ReactNode;
  /** Called with errors. Without it the message is shown after the button, as an alert. */
  onError?: (error: WattfareError) => void;
}

export interface BudgetBarProps extends Omit<HTMLAttributes<HTMLDivElement>, 'children'> {
  /** The meter's name for assistive technology. Default `AI budget`. */
  label?: string;
  /** The text beside the meter. Default `$4.20 left of $5.00 this month`. */
  format?: (status: ConnectionStatus) => string;
}

export function WattfareProvider(props: WattfareProviderProps): ReactElement;
/** Throws outside a provider. */
export function useWattfare(): UseWattfare;
/** An unstyled button that opens the consent popup; `aria-busy` while it is open. */
export function ConnectButton(props: ConnectButtonProps): ReactNode;
/** A `<meter>` with text, nothing while not connected; `data-state` is `ok`, `low`, `empty` or `unlimited`. */
export function BudgetBar(props: BudgetBarProps): ReactElement | null;
