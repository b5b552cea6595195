"""A stand-in OpenRouter for development and tests: its answers, faults, keys and bill, on loopback."""
