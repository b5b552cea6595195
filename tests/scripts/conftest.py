"""The running gateway that the commands are tried against."""

from tests.gateway.conftest import openrouter, stack

__all__ = ["openrouter", "stack"]
