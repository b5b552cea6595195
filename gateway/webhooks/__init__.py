"""Webhooks: endpoints, messages and their signatures, allowed addresses, the sender."""
