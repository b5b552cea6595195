"""A file by which `make run` shares its store, OpenRouter URL and keys with commands on the same machine.

Rule: only its owner may read the file, and it is valid only while the `make run` that wrote it holds its lock.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

NAMES: Final = (
    "OPENROUTER_BASE_URL",
    "REDIS_URL",
    "WATTFARE_REDIS_CA_FILE",
    "WATTFARE_REDIS_SELF_SIGNED",
    "WATTFARE_MASTER_KEYS",
    "WATTFARE_JWT_KEYS",
    "WATTFARE_PUBLIC_URL",
    "WATTFARE_CONSENT_URL",
)
"""The variables that a command must share with the running services."""


@contextlib.contextmanager
def publish_run(data_dir: Path, environ: Mapping[str, str]) -> Iterator[None]:
    """Share the variables of `environ` until the block or the process ends. Raises OSError."""
    path = _path(data_dir)
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+") as file:
        # A second `make run` on the same store does not wait for the lock: commands keep using the first.
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.truncate()
            json.dump({name: environ[name] for name in NAMES if environ.get(name)}, file)
            file.flush()
        yield


def read_run(data_dir: Path) -> dict[str, str]:
    """Return the variables of the `make run` on the store in `data_dir`; empty if none is running."""
    try:
        with _path(data_dir).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found: dict[str, str] = json.load(file)
                return found
    except (OSError, ValueError):
        pass
    return {}


def _path(data_dir: Path) -> Path:
    return data_dir / "run.json"
