"""A simulated OpenRouter for development and tests: answers, faults, keys and bill, on loopback."""
