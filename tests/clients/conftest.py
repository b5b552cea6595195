"""Fixtures of the client libraries' tests: the real gateway and Valkey, a scripted OpenRouter, attempts counted."""

import pytest

from tests.clients.attempts import RecordedAttempts
from tests.gateway.conftest import openrouter, patient, stack

__all__ = ["attempts", "openrouter", "patient", "stack"]


@pytest.fixture
def attempts() -> RecordedAttempts:
    """What a client sent to the gateway."""
    return RecordedAttempts()
