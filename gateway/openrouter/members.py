"""Extracts members of a JSON object that is too large to buffer, from pieces of any size.

Rule: a member is recognised by its place, at the top or within `response` or `message`, not by a search for bytes.
Strings and deeper members are skipped with regular expressions, that is, in C code. Nothing here raises.
"""

import re

from gateway.openrouter.dialects import PLACES, Wire
from gateway.openrouter.usage import parsed_value

# A usage has some hundred bytes, an error some kilobytes. Of a larger member only the beginning is kept.
MEMBER_BYTES = 16 * 1024
# No searched name is longer.
_NAME_BYTES = 64

_QUOTE, _BACKSLASH = ord('"'), ord("\\")
_OPENING, _CLOSING = frozenset(b"{["), frozenset(b"}]")
_MARKS = re.compile(rb'["{}\[\]:,]')
_BRACKETS = re.compile(rb'["{}\[\]]')
_IN_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
# Recognises output without a full parse: text or a vector under one of the names of delivered work.
_OUTPUT = re.compile(
    rb'"(?:arguments|b64_json|content|data|delta|embedding|image_url|partial_image_b64|partial_json|reasoning'
    rb"|reasoning_content|refusal|signature|text|thinking|transcript|url)"
    rb'"\s*:\s*(?:"[^"]|\[\s*[-0-9])|"input"\s*:\s*\{\s*"'
)


def looks_like_output(raw: bytes) -> bool:
    """Return whether invalid or truncated JSON contains delivered work."""
    return _OUTPUT.search(raw) is not None


def read_anyhow(wire: Wire, data: bytes) -> tuple[dict[str, object], bool]:
    """Return the readable members of an object that cannot be parsed (mostly truncated), and whether it has work."""
    members = Members()
    members.feed(data)
    return members.document(), members.holds_output(wire)


class Members:
    """Walks one JSON object. `is_whole`: its last brace was read."""

    def __init__(self) -> None:
        self.is_whole = False
        self._raw: dict[tuple[str, ...], bytes] = {}
        self._depth = 0
        self._tracked = 1  # the depth whose members are recognised: 2 within `response` or `message`
        self._place: tuple[str, ...] = ()
        self._in_string = False
        self._is_escaped = False
        self._is_name = False
        self._name = bytearray()
        self._value: bytearray | None = None
        self._is_void = False

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the object."""
        at, end, kept = 0, len(piece), 0
        while at < end and not (self.is_whole or self._is_void):
            if self._in_string:
                at = self._through_string(piece, at)
                continue
            mark = (_BRACKETS if self._depth > self._tracked else _MARKS).search(piece, at)
            if mark is None:
                break
            at = mark.end()
            if piece[at - 1] == _QUOTE:
                self._in_string = True
                if self._is_name:
                    self._name.clear()
            elif self._take(piece[at - 1], piece, kept, at):
                kept = at
        self._keep(piece, kept, end)

    def document(self) -> dict[str, object]:
        """Return the found members in the object's shape, without those whose value is too large."""
        document: dict[str, object] = {}
        for path, raw in self._raw.items():
            value = parsed_value(raw) if len(raw) < MEMBER_BYTES else None
            if value is not None:
                place = document.setdefault(path[0], {}) if len(path) > 1 else document
                if isinstance(place, dict):
                    place[path[-1]] = value
        return document

    def holds_output(self, wire: Wire) -> bool:
        """Return whether the beginning of a large member looks like this dialect's output."""
        raw = dict(self._raw)
        if self._value is not None:
            raw[self._path()] = bytes(self._value)
        return any(
            looks_like_output(b'"%b":%b' % (path[-1].encode(), value))
            for path, value in raw.items()
            if any(work[: len(path)] == path for work in wire.work_paths)
        )

    def _through_string(self, piece: bytes, at: int) -> int:
        """Skip to the end of the string or of the piece; return the position."""
        start = at
        if self._is_escaped:
            self._is_escaped = False
            at += 1
        inside = _IN_STRING.match(piece, at)
        at = inside.end() if inside else at
        if self._is_name and len(self._name) < _NAME_BYTES:
            self._name += piece[start:at]
        if at >= len(piece):
            return at
        if piece[at] == _BACKSLASH:
            self._is_escaped = True
            return len(piece)
        self._in_string = False
        return at + 1

    def _take(self, mark: int, piece: bytes, kept: int, at: int) -> bool:
        """Process one structural character outside strings; return whether a value begins after it."""
        if mark == ord(":"):
            if self._depth == self._tracked and self._is_name:
                self._is_name, self._value = False, bytearray()
                return True
        elif mark == ord(","):
            if self._depth == self._tracked:
                self._end_value(piece, kept, at - 1)
                self._is_name = True
        elif mark in _OPENING:
            self._open(mark)
        elif mark in _CLOSING:
            self._close(piece, kept, at - 1)
        return False

    def _open(self, mark: int) -> None:
        self._depth += 1
        if self._depth == 1:
            self._is_void = mark != ord("{")
            self._is_name = True
        elif self._depth == 2 and self._tracked == 1 and mark == ord("{") and self._name.decode("latin-1") in PLACES:
            self._tracked, self._place = 2, self._path()
            self._value, self._is_name = None, True

    def _close(self, piece: bytes, kept: int, at: int) -> None:
        if self._depth == self._tracked:
            self._end_value(piece, kept, at)
            if self._tracked == 2:
                self._tracked, self._place = 1, ()
        self._depth -= 1
        self._is_name = False
        self.is_whole = self._depth == 0
        if self._depth == self._tracked:
            # The object is complete at its last brace, without any following byte.
            self._end_value(piece, kept, at + 1)

    def _end_value(self, piece: bytes, kept: int, at: int) -> None:
        if self._value is not None:
            self._keep(piece, kept, at)
            self._raw[self._path()] = bytes(self._value)
            self._value = None

    def _path(self) -> tuple[str, ...]:
        return (*self._place, self._name.decode("latin-1"))

    def _keep(self, piece: bytes, start: int, end: int) -> None:
        if self._value is not None and (room := MEMBER_BYTES - len(self._value)) > 0:
            self._value += piece[start : min(end, start + room)]
