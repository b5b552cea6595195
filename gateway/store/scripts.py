"""Loads the Lua scripts of every room. Each script's header lists its keys, arguments, replies and repeats."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources

from gateway.keys import Budget
from gateway.store.cluster import slot_of
from gateway.store.connection import Arg, pack

Call = tuple[int, bytes, bytes]
"""A command: the slot of its keys, its packed words, and the SCRIPT LOAD command of its script, empty without one."""

# An include may include others.
_INCLUDE = re.compile(r"-- include: (\w+)\n")


# What precedes a word of that length. Formatting a number takes longer than the rest of a word.
_LENGTHS = [f"${length}\r\n" for length in range(1024)]
# Stands for a budget's name. No key contains it.
_NAME = "\0"


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its text as sent to Redis, and the SHA-1 by which EVALSHA runs it."""

    text: str
    sha: str
    load: bytes
    """The packed SCRIPT LOAD command."""

    def call(self, key_names: Sequence[str], args: Sequence[Arg]) -> Call:
        """Return the command that runs it."""
        packed = pack(("EVALSHA", self.sha, len(key_names), *key_names, *args))
        return slot_of(key_names[0]), packed, self.load

    def frequent(self, key_names: Callable[[Budget], Sequence[str]], *, args: int) -> "BudgetCommand":
        """Return the command on a budget's keys, which one more key and that number of arguments follow."""
        count = len(key_names(Budget.of_user("live", "app", "user"))) + 1
        return BudgetCommand(("EVALSHA", self.sha, count), key_names, more=1 + args, load=self.load)


class BudgetCommand:
    """A frequent command on a budget's keys. They differ by the budget's name, so all else of them is packed once for
    each length of a name: packing a key takes longer than anything else of a command.

    `start`: its first words; `key_names`: returns a budget's keys that follow; `more`: how many words follow them.
    """

    def __init__(
        self, start: tuple[Arg, ...], key_names: Callable[[Budget], Sequence[str]], *, more: int, load: bytes = b""
    ) -> None:
        self._start = start
        self._key_names = key_names
        self._more = more
        self._load = load
        self._templates: dict[int, str] = {}

    def call(self, budget: Budget, words: Sequence[str]) -> Call:
        """Return the command with its last words."""
        name = budget.name
        template = self._templates.get(len(name)) or self._template(budget)
        try:
            rest = "".join([f"{_LENGTHS[len(word)]}{word}\r\n" for word in words])
            packed = (template.replace(_NAME, name) + rest).encode("ascii")
        except (IndexError, UnicodeEncodeError):
            # A word is very long, or its length in bytes is another.
            packed = pack((*self._start, *self._key_names(budget), *words))
        return budget.slot, packed, self._load

    def _template(self, budget: Budget) -> str:
        words = (*self._start, *self._key_names(budget))
        _, _, packed = pack(words).decode().partition("\r\n")
        template = f"*{len(words) + self._more}\r\n{packed.replace(budget.name, _NAME)}"
        self._templates[len(budget.name)] = template
        return template


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
