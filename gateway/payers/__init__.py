"""Who may spend and who approved it: apps, sessions, attempts, connections, grants, wallets."""
