"""Settings of the commands, besides those of the services: the only reader of `os.environ` in `scripts`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.environment import Environment, SettingsError, with_file
from scripts.shared_run import read_run

ROOT: Final = Path(__file__).parents[1]
SERVICES: Final = {"gateway": 8080, "consent": 8081}
"""The services that `web` can run, with their default ports."""
PORTS: Final = {"GATEWAY_PORT": 8080, "CONSENT_PORT": 8081, "SANDBOX_PORT": 8082, "DEMO_PORT": 8083}
"""The default ports of `make run`, by variable."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """The settings of `make run`. `environ`: the variables of its processes; `data_dir`: the folder of its store."""

    ports: dict[str, int]
    environ: dict[str, str]
    data_dir: Path

    @classmethod
    def load(cls, environ: Mapping[str, str] = os.environ, *, is_terminal: bool = False) -> "RunSettings":
        """Return the settings of `environ`. Raises SettingsError.

        `is_terminal`: logs are read by a person, so they are text by default.
        """
        source = Environment(environ)
        ports = {name: source.integer(name, usual, least=1, most=65_535) for name, usual in PORTS.items()}
        twice = [name for name, port in ports.items() if list(ports.values()).count(port) > 1]
        if twice:
            raise SettingsError(f"{' and '.join(twice)} are the same port; give each its own.")
        urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        usual = {
            "OPENROUTER_BASE_URL": urls["SANDBOX_PORT"],
            "WATTFARE_PUBLIC_URL": urls["GATEWAY_PORT"],
            "WATTFARE_CONSENT_URL": urls["CONSENT_PORT"],
            "WATTFARE_DEMO_URL": urls["DEMO_PORT"],
            "WATTFARE_LOG_FORMAT": "text" if is_terminal else "json",
        }
        given = {name: value for name, value in environ.items() if value}
        numbers = {name: str(port) for name, port in ports.items()}
        return cls(ports, {**usual, **given, **numbers}, _data_dir(source))


def service_to_serve(environ: Mapping[str, str] = os.environ) -> str:
    """Return the service of the Procfile's `web`, one of SERVICES. Raises SettingsError."""
    value = Environment(with_file(environ)).text("WATTFARE_SERVICE")
    if value not in SERVICES:
        raise SettingsError("WATTFARE_SERVICE must be gateway or consent: it says which of the two `web` is here.")
    return value


def command_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables of a command: its own and, in development, those of the running `make run`.

    Raises SettingsError if the command would create a new store in a folder that was not named.
    """
    source = Environment(with_file(environ))
    if source.text("WATTFARE_ENV") == "production":
        return dict(environ)
    data_dir = _data_dir(source)
    beside = read_run(data_dir)
    is_named = source.text("REDIS_URL") or source.text("WATTFARE_DATA_DIR") or "REDIS_URL" in beside
    if not is_named and not data_dir.exists() and Path.cwd() != ROOT:
        raise SettingsError(
            f"WATTFARE_DATA_DIR is not set and there is no store in {data_dir}; run this where `make run` runs,"
            " or name its store with WATTFARE_DATA_DIR or REDIS_URL."
        )
    return {**beside, **{name: value for name, value in environ.items() if value.strip()}}


def _data_dir(source: Environment) -> Path:
    return Path(source.text("WATTFARE_DATA_DIR") or ".wattfare").expanduser().absolute()
