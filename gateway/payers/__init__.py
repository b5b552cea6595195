"""Who may spend, and who said so: apps, sessions, connections, attempts, wallets."""
