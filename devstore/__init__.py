"""The embedded Valkey of development and tests."""
