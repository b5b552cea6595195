"""The running gateway that the commands are tried against."""

from tests.gateway.conftest import openrouter, stack
from tests.gateway.webhooks.conftest import hooks, receiver

__all__ = ["hooks", "openrouter", "receiver", "stack"]
