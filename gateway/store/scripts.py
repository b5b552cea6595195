"""The Lua scripts of every room. A header tells each one's keys, arguments, answers and repeats."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from gateway.store.connection import Arg, pack


@dataclass(frozen=True, slots=True)
class Script:
    """One script as Redis gets it, and the name Redis gives it."""

    text: str
    sha: str
    load: bytes
    """The command that makes it known to a server."""

    def call(self, key_names: Sequence[str], args: Sequence[Arg]) -> bytes:
        """Return the command that runs it."""
        return pack(("EVALSHA", self.sha, len(key_names), *key_names, *args))


def load() -> dict[str, Script]:
    """Return every script by its file's name, its includes filled in. A room keeps its own in its folder `lua`."""
    rooms = [room / "lua" for room in resources.files("gateway").iterdir() if (room / "lua").is_dir()]
    shared = {
        file.name.removesuffix(".lua"): file.read_text()
        for room in rooms
        if (room / "include").is_dir()
        for file in (room / "include").iterdir()
    }
    scripts = {}
    for file in (file for room in rooms for file in room.iterdir() if file.name.endswith(".lua")):
        text = file.read_text()
        for name, included in shared.items():
            text = text.replace(f"-- include: {name}\n", included)
        sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        scripts[file.name.removesuffix(".lua")] = Script(text, sha, pack(("SCRIPT", "LOAD", text)))
    return scripts
