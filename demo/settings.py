"""The demo's settings, its only reader of the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_OPENROUTER = "https://openrouter.ai"


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """`keys_file`: keeps the app's keys between starts.

    `is_sandbox`: calls go to the sandbox, so the page offers its models with faults.
    """

    host: str
    port: int
    gateway_url: str
    consent_url: str
    keys_file: Path
    model: str
    is_sandbox: bool

    def model_for(self, requested: object) -> str:
        """Return the model for a question: the page may choose models of the sandbox only."""
        return requested if isinstance(requested, str) and requested.startswith("sandbox/") else self.model

    @property
    def origin(self) -> str:
        """The origin that the app registers."""
        return f"http://{self.host}:{self.port}"


def read_settings(environ: Mapping[str, str] = os.environ) -> DemoSettings:
    """Return the settings by `environ`. Raises ValueError that names the variable."""
    port = environ.get("PORT") or "8083"
    if not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65_535):
        raise ValueError("PORT must be a whole number from 1 to 65535.")
    data_dir = environ.get("WATTFARE_DATA_DIR") or ".wattfare"
    return DemoSettings(
        host=environ.get("HOST") or "127.0.0.1",
        port=int(port),
        gateway_url=_url(environ, "WATTFARE_PUBLIC_URL", "http://127.0.0.1:8080"),
        consent_url=_url(environ, "WATTFARE_CONSENT_URL", "http://127.0.0.1:8081"),
        keys_file=Path(environ.get("DEMO_KEYS_FILE") or Path(data_dir, "demo.json")).expanduser(),
        model=environ.get("DEMO_MODEL") or "openai/gpt-4o-mini",
        is_sandbox=environ.get("OPENROUTER_BASE_URL", _OPENROUTER).startswith("http://"),
    )


def _url(environ: Mapping[str, str], name: str, standard: str) -> str:
    value = (environ.get(name) or standard).rstrip("/")
    if not value.startswith(("http://", "https://")):
        raise ValueError(f"{name} must be an http:// or https:// URL.")
    return value
