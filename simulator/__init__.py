"""Simulated OpenRouter answers, for test keys and the sandbox."""
