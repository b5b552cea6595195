"""The data plane: one request path, one store of money.

Rule: imports go down: edge, metered, services, payers, ledger, openrouter, store, then the files of this folder.
`setup.cfg` has the contracts. Only Lua moves money, only `settings` reads the environment.
"""
