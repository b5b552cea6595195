"""A small app that uses Wattfare like any app: through its public HTTP API, with a publishable and a secret key."""
