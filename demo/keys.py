"""The demo's own app: registered at the first start by `scripts.create_app`, with its keys kept in a file.

Rule: the file contains a secret key, so only its owner may read it.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from demo.settings import DemoSettings

_NAME = "Demo App"


class NoKeysError(Exception):
    """The app could not be registered; the message says why."""


@dataclass(frozen=True, slots=True)
class AppKeys:
    """An app's keys: the publishable one for its page, the secret one for its backend only."""

    publishable: str
    secret: str = field(repr=False)


def load_keys(settings: DemoSettings) -> AppKeys:
    """Return the keys in `keys_file`, registering the app first if they are missing or of another origin.

    Raises NoKeysError.
    """
    kept = _read(settings.keys_file)
    if kept.get("origin") != settings.origin:
        kept = {**_register(settings.origin), "origin": settings.origin}
        _write(settings.keys_file, kept)
    return AppKeys(kept["publishableKey"], kept["secretKey"])


def _register(origin: str) -> dict[str, str]:
    options = ("--name", _NAME, "--origin", origin, "--return-url", f"{origin}/?*", "--json")
    command = [sys.executable, "-m", "scripts.create_app", *options]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise NoKeysError(f"The demo could not register its app. {run.stderr.strip()}")
    keys: dict[str, str] = json.loads(run.stdout)
    return keys


def _read(path: Path) -> dict[str, str]:
    try:
        kept: dict[str, str] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return kept


def _write(path: Path, kept: dict[str, str]) -> None:
    """Write a draft and rename it, so that the file is never incomplete."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # mkstemp creates the file with mode 600.
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix="demo-")
    with os.fdopen(descriptor, "w") as file:
        json.dump(kept, file)
    Path(draft).replace(path)
