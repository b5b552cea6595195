"""The data plane: one request path, one store of money.

A request walks down: server, routes, proxy, the stores (apps, sessions, connections, ledger, upstream),
and the pure core (meter, chat, pricing, sse, money, keys, sealing). No file imports one above it;
`setup.cfg` holds the floors. Only Lua moves money, only `settings` reads the environment.
"""
