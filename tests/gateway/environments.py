"""Environment variables for the tests of settings and start-up."""

import base64

import pytest

from gateway.environment import SettingsError
from gateway.settings import Settings

OLD, NEW = b"o" * 32, b"n" * 32


def ring_text(**keys: bytes) -> str:
    """A key ring as the environment writes it."""
    return ",".join(f"{kid}:{base64.b64encode(key).decode()}" for kid, key in keys.items())


RINGS = {"WATTFARE_MASTER_KEYS": ring_text(m1=OLD), "WATTFARE_JWT_KEYS": ring_text(j1=b"j" * 32)}
PRODUCTION = {
    **RINGS,
    "WATTFARE_ENV": "production",
    "REDIS_URL": "redis://10.1.2.3:6379/0",
    "WATTFARE_PUBLIC_URL": "https://api.example",
    "WATTFARE_CONSENT_URL": "https://pay.example",
}


def load(**variables: str) -> Settings:
    """The settings of the rings and these variables."""
    return Settings.load({**RINGS, **variables})


def refusal(environ: dict[str, str]) -> str:
    """The one line that refuses an environment."""
    with pytest.raises(SettingsError) as caught:
        Settings.load(environ)
    message = str(caught.value)
    assert "\n" not in message
    return message
