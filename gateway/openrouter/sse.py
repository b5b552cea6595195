"""Pure scanners beside the relay: answer bytes in at any split; usage, generation id and errors out.

They hold no more than one event (or one bounded body), look at no token text they do not need, and never raise.
Rules and their recordings: a non-null `usage` counts wherever it stands, the last one wins, an error is not the end.
"""

import re
from typing import Protocol

from gateway.openrouter.usage import (
    AnswerError,
    Usage,
    find_errors,
    find_id,
    find_usage,
    merged,
    parsed,
    parsed_prefix,
    read_usage,
)

# The largest recorded transport chunk held 21 kB; image events carry some MB of base64 and no usage of their own kind.
MAX_EVENT_BYTES = 4 * 1024 * 1024

# Above this a body is mostly vectors or base64: only its ends, where id and usage stand, are kept and read (a full
# parse of 30 MB of embeddings would hold up every other stream of the process for seconds).
WHOLE_BODY_BYTES = 256 * 1024
_HEAD_BYTES = 16 * 1024
_USAGE_BYTES = 16 * 1024
_LEADING_BYTES = 512

# An id stands on every chunk; a stream whose first events have none never gets one.
_ID_ATTEMPTS = 16
_MAX_ERRORS = 8

# What Python keeps for one held line beside its bytes: without it, endless one-byte lines would pass the bound.
_LINE_OVERHEAD_BYTES = 48

# A text event has an envelope of some 300 bytes round a token or two of about four bytes each.
_BYTES_PER_TOKEN = 4

# A line of one of these, or a comment, carries no output.
_KNOWN_FIELDS = (b":", b"data", b"event", b"id", b"retry")

_BOM = b"\xef\xbb\xbf"
_WORTH_PARSING = re.compile(rb'"(?:usage|error)"\s*:\s*[{"]')
_LEADING_ID = re.compile(rb'\s*\{\s*"id"\s*:\s*"([!#-\[\]-~]{1,128})"')
_ANY_ID = re.compile(rb'"id"\s*:\s*"(gen-[!#-\[\]-~]{1,124})"')
_USAGE_OBJECT = re.compile(rb'"usage"\s*:\s*(?=\{)')


class Scanner(Protocol):
    """What the meter reads off an answer, whichever form it has."""

    usage: Usage | None
    generation_id: str | None
    errors: tuple[AnswerError, ...]
    done: bool
    has_content: bool
    payload_bytes: int

    @property
    def completion_bytes(self) -> int:
        """Bytes of generated text, roughly: for the estimate, never for a stated cost."""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body, however they were split."""

    def finish(self) -> None:
        """Read what is left when the body has ended, in order or not."""


class SseScanner:
    """Scans one `text/event-stream` body: LF, CRLF or CR, comments, multi-line data, BOM, no blank line at the end."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self.usage: Usage | None = None
        self.generation_id: str | None = None
        self.errors: tuple[AnswerError, ...] = ()
        self.done = False
        self.has_content = False
        self.payload_bytes = 0
        self.events = 0
        self._max_event_bytes = max_event_bytes
        self._line = bytearray()  # the line not ended yet
        self._data: list[bytes] = []  # data lines of the event not ended yet
        self._held = 0
        self._skipping = False
        self._after_cr = False
        self._at_start = True
        self._smallest = 0

    @property
    def completion_bytes(self) -> int:
        """One token for each event, and what its payload has beyond the smallest: the envelope is no output."""
        return _BYTES_PER_TOKEN * self.events + self.payload_bytes - self.events * self._smallest

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the stream."""
        if not chunk:
            return
        if self._is_whole(chunk):
            self._at_start = self._after_cr = False
            if self._skims(chunk):
                return
            if chunk.startswith(b"data: ") and chunk.find(b"\n") == len(chunk) - 2:
                self._event(chunk[6:-2])
                return
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        lines = chunk.splitlines()
        self._after_cr = chunk.endswith(b"\r")
        rest = b"" if self._after_cr or chunk.endswith(b"\n") or not lines else lines.pop()
        if lines and self._line:
            lines[0] = bytes(self._line) + lines[0]
            self._line.clear()
        for line in lines:
            self._end_line(line)
        if rest:
            self._keep(rest)

    def finish(self) -> None:
        """Read the last event even when its line or its blank line is missing."""
        if self._line:
            line = bytes(self._line)
            self._line.clear()
            self._end_line(line)
        self._dispatch()

    def _is_whole(self, chunk: bytes) -> bool:
        """Tell the commonest chunk, which begins and ends with whole events: nothing of it must be kept."""
        return (
            chunk.endswith(b"\n\n")
            and not (self._line or self._data or self._skipping)
            and len(chunk) <= self._max_event_bytes
            and b"\r" not in chunk
        )

    def _skims(self, chunk: bytes) -> bool:
        """Count whole events that hold nothing to read, one data line each; tell whether these are such.

        Once there is content and an id, only usage, errors and the end are still to be looked for.
        """
        if not self.has_content or self.generation_id is None:
            return False
        if b'"usage"' in chunk or b'"error"' in chunk or b"[DONE]" in chunk:
            return False
        events = chunk.split(b"\n\n")
        events.pop()
        if chunk.count(b"\n") != 2 * len(events) or not all(event.startswith(b"data: {") for event in events):
            return False
        sizes = [len(event) - 6 for event in events]
        self.events += len(sizes)
        self.payload_bytes += sum(sizes)
        self._smallest = min(self._smallest, *sizes)
        return True

    def _keep(self, part: bytes) -> None:
        """Hold an unfinished line, or only that there is one when its event is too large already."""
        if not self._skipping and self._held + len(self._line) + len(part) > self._max_event_bytes:
            self._skip_event()
        if not self._skipping:
            self._line += part
        elif not self._line:
            self._line += b":"

    def _skip_event(self) -> None:
        self._skipping = True
        self._data.clear()
        self._line.clear()

    def _end_line(self, line: bytes) -> None:
        # The blank line that ends an event adds nothing to it.
        if line and self._held + len(line) > self._max_event_bytes:
            self._skip_event()
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if not line:
            self._dispatch()
        elif line.startswith(b"data:") and not self._skipping:
            self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            self._held += len(line) + _LINE_OVERHEAD_BYTES
        elif not line.startswith(_KNOWN_FIELDS):
            # What we do not understand is not nothing.
            self.has_content = True

    def _dispatch(self) -> None:
        lines, self._data = self._data, []
        skipped, self._skipping, self._held = self._skipping, False, 0
        if skipped:
            self.has_content = True
        if lines:
            self._event(lines[0] if len(lines) == 1 else b"\n".join(lines))

    def _event(self, data: bytes) -> None:
        if data == b"[DONE]":
            self.done = True
            return
        if not data:
            return
        size = len(data)
        self.events += 1
        self.payload_bytes += size
        if size < self._smallest or self.events == 1:
            self._smallest = size
        if (self.generation_id is None and self.events <= _ID_ATTEMPTS) or _is_worth_parsing(data):
            self._read(data)
        else:
            self.has_content = True

    def _read(self, data: bytes) -> None:
        document = parsed(data)
        if self.generation_id is None:
            self.generation_id = find_id(document)
        self.usage = merged(self.usage, find_usage(document))
        errors = find_errors(document)
        if errors:
            self.errors = (self.errors + errors)[:_MAX_ERRORS]
        else:
            self.has_content = True


class JsonScanner:
    """Scans one JSON body, keep-alive whitespace in front and all; reads it at `finish`, the id earlier if it leads."""

    def __init__(self, whole_body_bytes: int = WHOLE_BODY_BYTES) -> None:
        self.usage: Usage | None = None
        self.generation_id: str | None = None
        self.errors: tuple[AnswerError, ...] = ()
        self.done = False
        self.has_content = False
        self.payload_bytes = 0
        self._whole_body_bytes = whole_body_bytes
        self._head = b""
        self._body = bytearray()  # its last part, once `_head` was put aside

    @property
    def completion_bytes(self) -> int:
        """Bytes of the body without the whitespace in front of it."""
        return self.payload_bytes

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""
        if not self.payload_bytes:
            chunk = chunk.lstrip(b" \t\r\n")
        if not chunk:
            return
        is_head = self.payload_bytes < _LEADING_BYTES
        self.payload_bytes += len(chunk)
        self._body += chunk
        if len(self._body) > 2 * self._whole_body_bytes:
            self._head = self._head or bytes(self._body[:_HEAD_BYTES])
            del self._body[: -self._whole_body_bytes]
        if is_head and self.generation_id is None and (found := _LEADING_ID.match(self._head or self._body)):
            self.generation_id = found[1].decode()

    def finish(self) -> None:
        """Parse the body; a broken one yields nothing more."""
        self.has_content = self.payload_bytes > 0
        if self._head or len(self._body) > self._whole_body_bytes:
            self._read_ends()
        elif self._body:
            self._read(bytes(self._body))
        self._body.clear()

    def _read(self, body: bytes) -> None:
        document = parsed(body)
        self.done = bool(document)
        self.generation_id = self.generation_id or find_id(document)
        self.usage = find_usage(document)
        self.errors = find_errors(document)[:_MAX_ERRORS]
        if self.errors and "choices" not in document:
            self.has_content = False

    def _read_ends(self) -> None:
        """Read usage and id where they stand in a body that is mostly vectors or base64.

        The bytes `"usage":{` cannot stand inside a JSON string: its quotes would be escaped.
        """
        body = self._head + bytes(self._body)
        self.done = body.rstrip().endswith(b"}")
        at = body.rfind(b'"usage"')
        while at >= 0 and self.usage is None:
            if found := _USAGE_OBJECT.match(body, at):
                self.usage = read_usage(parsed_prefix(body[found.end() : found.end() + _USAGE_BYTES]))
            at = body.rfind(b'"usage"', 0, at)
        if self.generation_id is None and (last := _ANY_ID.search(body, max(0, len(body) - self._whole_body_bytes))):
            self.generation_id = last[1].decode()


def _is_worth_parsing(data: bytes) -> bool:
    """Two substring tests for nearly every event; the pattern only for the few that pass them."""
    return (b'"usage"' in data or b'"error"' in data) and _WORTH_PARSING.search(data) is not None
