"""The sandbox is set from the environment, and a wrong value is named."""

import pytest

from sandbox.settings import SandboxSettings, read_settings


def test_an_empty_environment_gives_the_standard() -> None:
    """Loopback, port 8082, /generation delayed by a second."""
    assert read_settings({}) == SandboxSettings("127.0.0.1", 8082, 1_000, 1_000, 600, ())


def test_each_variable_is_read() -> None:
    """All of them at once."""
    environ = {
        "HOST": "127.0.0.2",
        "PORT": "9000",
        "SANDBOX_GENERATION_DELAY_MS": "0",
        "SANDBOX_KEEPALIVE_MS": "50",
        "SANDBOX_CODE_LIFE_SECONDS": "5",
        "SANDBOX_LISTED_MODELS": "sandbox/price-2, sandbox/long-7,",
    }
    listed = ("sandbox/price-2", "sandbox/long-7")
    assert read_settings(environ) == SandboxSettings("127.0.0.2", 9000, 0, 50, 5, listed)


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "65536"), ("PORT", "x"), ("SANDBOX_KEEPALIVE_MS", "0"), ("PORT", "٣")]
)
def test_a_malformed_value_names_its_variable(name: str, value: str) -> None:
    """One line, the name in it."""
    with pytest.raises(ValueError, match=name):
        read_settings({name: value})
