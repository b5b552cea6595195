"""A small app that uses Wattfare as any app would: over its public HTTP API, with a publishable and a secret key."""
