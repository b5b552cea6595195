"""The Lua scripts, the only code that moves money. A header tells each one's keys, arguments, answers and repeats."""

import hashlib
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, slots=True)
class Script:
    """One script as Redis gets it, and the name Redis gives it."""

    text: str
    sha: str


def load() -> dict[str, Script]:
    """Return every script by its file's name, its includes filled in."""
    folder = resources.files("gateway.lua")
    shared = {file.name: file.read_text() for file in (folder / "include").iterdir()}
    scripts = {}
    for file in folder.iterdir():
        if file.name.endswith(".lua"):
            text = file.read_text()
            for name, included in shared.items():
                text = text.replace(f"-- include: {name.removesuffix('.lua')}\n", included)
            scripts[file.name.removesuffix(".lua")] = Script(text, hashlib.sha1(text.encode()).hexdigest())  # noqa: S324 - Redis names scripts so
    return scripts
