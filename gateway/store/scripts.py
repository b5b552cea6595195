"""Loads the Lua scripts of every room, and packs their calls.

Each script's header lists its keys, arguments, replies and repeats.
"""

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


# What stands between one word and the next, of that length. Formatting a number takes longer than the rest of a word.
_BEFORE = [f"\r\n${length}\r\n" for length in range(1024)]
# As often as a request's id is long, it stands for the id. No key contains it.
_STAND_IN = "\1"


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its text as sent to Redis, and the SHA-1 by which EVALSHA runs it."""

    text: str
    sha: str
    load: bytes
    """The packed SCRIPT LOAD command."""

    @classmethod
    def of(cls, text: str) -> "Script":
        """Return the script with that text."""
        sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        return cls(text, sha, pack(("SCRIPT", "LOAD", text)))

    def call(self, key_names: Sequence[str], args: Sequence[Arg]) -> Call:
        """Return the command that runs it."""
        packed = pack(("EVALSHA", self.sha, len(key_names), *key_names, *args))
        return slot_of(key_names[0]), packed, self.load

    def frequent(
        self, words: Callable[[Budget, str], Sequence[str]], *, keys: int, more: int, constants: str = ""
    ) -> "RequestCommand":
        """Return the command that runs it on `words`, of which the first `keys` are its keys; see RequestCommand.

        `constants`: Lua put before the text. A value as an argument takes Redis time at each call, as a constant none.
        """
        script = Script.of(constants + self.text)
        return RequestCommand(("EVALSHA", script.sha, keys), words, more=more, load=script.load)


class RequestCommand:
    """A frequent command about one request.

    Its first words are the same but for the budget's name and the request's id, so all else of them is packed once for
    each length of the two: packing key by key takes longer than anything else of a command.

    `words`: returns the words after `start` by budget and request id; `more`: how many words follow them.
    """

    def __init__(
        self,
        start: tuple[Arg, ...],
        words: Callable[[Budget, str], Sequence[str]],
        *,
        more: int,
        load: bytes = b"",
    ) -> None:
        self._start = start
        self._words = words
        self._more = more
        self._load = load
        self._templates: dict[tuple[int, int], list[list[str]]] = {}
        """Their text, split where the request's id stands, and each part where the budget's name does."""

    def call(self, budget: Budget, request_id: str, last: Sequence[str]) -> Call:
        """Return the command with its last words."""
        name = budget.name
        template = self._templates.get((len(name), len(request_id))) or self._template(budget, request_id)
        try:
            # To join what was split takes half as long as to replace marks, and as to append to a text.
            said = [request_id.join([name.join(parts) for parts in template])]
            for word in last:
                said.append(_BEFORE[len(word)])
                said.append(word)
            said.append("\r\n")
            packed = "".join(said).encode("ascii")
        except (IndexError, UnicodeEncodeError):
            # A word is very long, or its length in bytes is another.
            packed = pack((*self._start, *self._words(budget, request_id), *last))
        return budget.slot, packed, self._load

    def _template(self, budget: Budget, request_id: str) -> list[list[str]]:
        stand_in = _STAND_IN * len(request_id)
        words = (*self._start, *self._words(budget, stand_in))
        _, _, packed = pack(words).decode().partition("\r\n")
        text = f"*{len(words) + self._more}\r\n{packed}".removesuffix("\r\n")
        template = [part.split(budget.name) for part in (text.split(stand_in) if stand_in else [text])]
        self._templates[len(budget.name), len(request_id)] = template
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
        scripts[file.name.removesuffix(".lua")] = Script.of(text)
    return scripts
