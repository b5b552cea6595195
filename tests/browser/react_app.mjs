// An app made with `wattfare/react`: rendered by a server first, then alive in a browser, in StrictMode.
import { createElement as h, StrictMode } from 'react'
import { BudgetBar, ConnectButton, isNotConnected, useWattfare, WattfareProvider } from 'wattfare/react'

export function App({ options }) {
  return h(StrictMode, null, h(WattfareProvider, options, h(Panel)))
}

function Panel() {
  const { connected, remainingUsd, loading, error, connect, disconnect, refresh } = useWattfare()
  return h(
    'main',
    null,
    h('p', { id: 'state' }, `${connected} ${loading} ${remainingUsd} ${error ? error.code : 'no error'} ${isNotConnected(error)}`),
    h(ConnectButton, { className: 'connect', whenConnected: h('p', null, 'Your budget pays.') }),
    h(BudgetBar, { className: 'bar' }),
    h('button', { onClick: connect }, 'Again'),
    h('button', { onClick: disconnect }, 'Disconnect'),
    h('button', { onClick: refresh }, 'Refresh'),
  )
}
