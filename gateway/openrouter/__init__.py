"""OpenRouter: the client, the price list, and the parsers of its answers."""
