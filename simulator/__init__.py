"""What test keys and the sandbox answer with."""
