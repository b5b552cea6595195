"""The HTTP API: the URL table with its single error boundary, and every resource but the metered calls."""
