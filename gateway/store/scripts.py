"""Loads the Lua scripts of every room. Each script's header lists its keys, arguments, replies and repeats."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from gateway.store.connection import Arg, pack

# An include may include others.
_INCLUDE = re.compile(r"-- include: (\w+)\n")


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its text as sent to Redis, and the SHA-1 by which EVALSHA runs it."""

    text: str
    sha: str
    load: bytes
    """The packed SCRIPT LOAD command."""

    def call(self, key_names: Sequence[str], args: Sequence[Arg]) -> bytes:
        """Return the packed EVALSHA command."""
        return pack(("EVALSHA", self.sha, len(key_names), *key_names, *args))


def load() -> dict[str, Script]:
    """Return every script by its file's stem, includes expanded. Each room's scripts are in its folder `lua`."""
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
        while (found := _INCLUDE.search(text)) is not None:
            text = text[: found.start()] + shared[found[1]] + text[found.end() :]
        sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        scripts[file.name.removesuffix(".lua")] = Script(text, sha, pack(("SCRIPT", "LOAD", text)))
    return scripts
