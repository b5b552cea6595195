"""The sandbox's settings, its only reader of the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class SandboxSettings:
    """The settings of one sandbox.

    `generation_delay_ms`: how long /generation is 404 after the end. `keepalive_ms`: the interval of comments during a
    pause. `code_life_seconds`: how long an authorization code is valid. `listed_models`: more members of families.
    """

    host: str = "127.0.0.1"
    port: int = 8082
    generation_delay_ms: int = 1_000
    keepalive_ms: int = 1_000
    code_life_seconds: int = 600
    listed_models: tuple[str, ...] = ()


def read_settings(environ: Mapping[str, str] = os.environ) -> SandboxSettings:
    """Return the settings by `environ`. Raises ValueError that names the variable."""
    standard = SandboxSettings()
    return SandboxSettings(
        host=environ.get("HOST") or standard.host,
        port=_number(environ, "PORT", standard.port, highest=65_535),
        generation_delay_ms=_number(environ, "SANDBOX_GENERATION_DELAY_MS", standard.generation_delay_ms),
        keepalive_ms=_number(environ, "SANDBOX_KEEPALIVE_MS", standard.keepalive_ms, lowest=1),
        code_life_seconds=_number(environ, "SANDBOX_CODE_LIFE_SECONDS", standard.code_life_seconds),
        listed_models=tuple(filter(None, map(str.strip, environ.get("SANDBOX_LISTED_MODELS", "").split(",")))),
    )


def _number(environ: Mapping[str, str], name: str, standard: int, *, lowest: int = 0, highest: int = 86_400_000) -> int:
    value = environ.get(name, "")
    if not value:
        return standard
    if not value.isascii() or not value.isdigit() or not lowest <= int(value[:12]) <= highest:
        raise ValueError(f"{name} must be a whole number from {lowest} to {highest}")
    return int(value)
