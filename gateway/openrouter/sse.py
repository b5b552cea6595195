"""A pure scanner of an answer that is a stream of events: reads bytes in any split, finds usage, id, errors, the end.

It buffers at most one event, parses only the events that it must, and never raises.
Rules, from recordings: a non-null `usage` counts at any place, the last one replaces earlier ones, an error is not the
end.
"""

from gateway.openrouter.dialects import Wire, carries_work, marks
from gateway.openrouter.members import Members, looks_like_output, read_anyhow
from gateway.openrouter.scanner import MAX_ERRORS, Scanner
from gateway.openrouter.usage import (
    ERROR_MARK,
    USAGE_MARK,
    AnswerError,
    errors_in,
    find_errors,
    find_id,
    find_usage,
    merged,
    parsed_answer,
)

# The largest recorded transport chunk had 21 kB. A larger event is mostly an image; its members are extracted without
# buffering it.
MAX_EVENT_BYTES = 256 * 1024

# Every chunk has the id; if the first events have none, the stream has none.
_ID_ATTEMPTS = 16

# Python's overhead for one buffered line, which is counted because endless one-byte lines would exceed the memory.
_LINE_OVERHEAD_BYTES = 48

# A text event has an envelope of about 300 bytes around a token or two of about four bytes each.
_BYTES_PER_TOKEN = 4

# The longest keep-alive event; the usual one is `{"type": "ping"}`.
_PING_BYTES = 64

_DONE = b"[DONE]"
_FIELD, _OBJECT, _END = b"data: ", b"data: {", b"\n\n"
_NEXT_OBJECT = _END + _OBJECT
_FIELD_BYTES, _FRAME_BYTES = len(_FIELD), len(_FIELD + _END)
# A line that can be a complete event: data, or a comment.
_ONE_LINE = (_FIELD, b":")
_CR, _LF, _COLON = b"\r\n:"
_BOM = b"\xef\xbb\xbf"
_KNOWN_FIELDS = (b":", b"data", b"event", b"id", b"retry")


class SseScanner(Scanner):
    """Scans one `text/event-stream` body: LF, CRLF or CR, comments, multi-line data, BOM, no blank line at the end."""

    is_event_stream = True
    generation_id: str | None = None
    has_work = False
    is_outdone = False
    _held = 0
    _large: Members | None = None  # the unfinished event, if it is too large to buffer
    _is_passing = False  # whether the rest of the line is given to `_large` directly
    _is_data = False  # whether that line is data
    _is_bare = False
    _after_cr = False
    _at_start = True

    def __init__(self, wire: Wire, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._wire = wire
        self._marks = (USAGE_MARK, ERROR_MARK, *marks(wire.ends))
        self._max_event_bytes = max_event_bytes
        self._line = bytearray()  # the unfinished line; in a large event its first bytes
        self._data: list[bytes] = []  # data lines of the unfinished event
        self._is_between = True  # whether the bytes so far end with a complete event
        self._may_skim = False  # whether only events with a searched mark are parsed
        self._smallest = max_event_bytes
        self.done = False

    @property
    def completion_bytes(self) -> int:
        """The bytes of one token for each event, plus its payload beyond that of the smallest event, the envelope."""
        return _BYTES_PER_TOKEN * self.events + self.payload_bytes - self.events * self._smallest

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes of the stream."""
        size = len(chunk) - _FRAME_BYTES
        if (
            self._may_skim
            and chunk.find(b"\n") == size + _FIELD_BYTES
            and chunk.startswith(_OBJECT)
            and chunk[-1] == _LF
            and _CR not in chunk
            and self._is_between
            and size >= _PING_BYTES
        ):
            # One event on one line, as most chunks are. To call `partition` takes half as long as to call `find`.
            for mark in self._marks:
                if chunk.partition(mark)[1]:
                    break
            else:
                self.events += 1
                self.payload_bytes += size
                if size < self._smallest:  # noqa: PLR1730 - `min` takes ten times as long
                    self._smallest = size
                return
        at = 0
        if self._is_between and len(chunk) <= self._max_event_bytes and _CR not in chunk:
            if self._may_skim:
                at = self._skim(chunk, at)
            if at < len(chunk):
                at = self._take_whole(chunk, at)
        if at < len(chunk):
            self._take_lines(chunk[at:])

    def finish(self, last: bytes = b"") -> None:
        """Read the last event, even without its line end or blank line."""
        if last:
            self.feed(last)
        if self._is_between:
            return
        if self._line or self._is_passing:
            self._end_line(b"")
        self._dispatch()

    def _skim(self, chunk: bytes, at: int) -> int:
        """Count the events from `at` that are before the first searched mark, and return where the rest begins.

        None is counted unless all are objects on one line each, as most are.
        """
        mark_at = len(chunk)
        for mark in self._marks:
            # `in` first tests its operand for a number, which takes as long as the search.
            found = chunk.find(mark, at, mark_at)
            if found >= 0:
                mark_at = found
        end = chunk.rfind(_END, at, mark_at)
        if end < 0 or not chunk.startswith(_OBJECT, at):
            return at
        objects = chunk[at + len(_OBJECT) : end].split(_NEXT_OBJECT)  # each without its first brace
        payload, smallest = b"".join(objects), min(map(len, objects)) + 1
        if smallest < _PING_BYTES or payload.find(b"\n") >= 0:
            return at
        self.events += len(objects)
        self.payload_bytes += len(payload) + len(objects)
        self._smallest = min(self._smallest, smallest)
        return end + len(_END)

    def _take_whole(self, chunk: bytes, at: int) -> int:
        """Read the complete events and comments of one line each from `at`, and return where the rest begins."""
        is_skimmed = self._may_skim
        while (end := chunk.find(_END, at)) >= 0:
            event = chunk[at:end]
            if _LF in event or not event.startswith(_ONE_LINE):
                break
            self._at_start = False
            if event[0] != _COLON:
                self._event(event[_FIELD_BYTES:])
            at = end + len(_END)
            if self._may_skim and not is_skimmed:
                is_skimmed = True
                at = self._skim(chunk, at)
        return at

    def _take_lines(self, chunk: bytes) -> None:
        """Read lines of any form, and buffer the last event until it is complete."""
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        lines = chunk.splitlines()
        self._after_cr = chunk.endswith(b"\r")
        rest = b"" if self._after_cr or chunk.endswith(b"\n") or not lines else lines.pop()
        for line in lines:
            self._end_line(line)
        if rest:
            self._keep(rest)
        self._is_between = not (self._line or self._data or self._large or self._after_cr)

    def _keep(self, part: bytes) -> None:
        """Buffer an unfinished line, or pass it on if its event is too large to buffer."""
        if self._large is None and self._held + len(self._line) + len(part) > self._max_event_bytes:
            self._begin_large()
        if self._large is None:
            self._line += part
        else:
            self._pass(part)

    def _end_line(self, part: bytes) -> None:
        """Handle the end of a line, which may be the whole line."""
        if self._large is None:
            line = bytes(self._line) + part if self._line else part
            # The blank line that ends an event adds nothing to it.
            if not line or self._held + len(line) <= self._max_event_bytes:
                self._line.clear()
                self._read_line(line)
                return
            self._begin_large()
        if part or self._line or self._is_passing:
            self._pass(part, is_last=True)
        else:
            self._dispatch()

    def _read_line(self, line: bytes) -> None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if not line:
            self._dispatch()
        elif (data := self._data_of(line)) is not None:
            self._data.append(data)
            self._held += len(line) + _LINE_OVERHEAD_BYTES
            # The end counts without its blank line, before which upstream may hang.
            self.done = self.done or data == _DONE
        elif not line.startswith(_KNOWN_FIELDS) and looks_like_output(line):
            # It is not an event, but its content was delivered.
            self.has_work = True

    def _data_of(self, line: bytes) -> bytes | None:
        """Return the data that a line adds to its event, None for another field.

        JSON without a field name, as a CDN may send it after comments, is read as data.
        """
        if line.startswith(b"data:"):
            return line[6:] if line.startswith(b"data: ") else line[5:]
        if line.startswith(b"{") or (self._is_bare and not line.startswith(_KNOWN_FIELDS)):
            self._is_bare = True
            return line
        return None

    def _begin_large(self) -> None:
        """Stop buffering the event; its data and line so far are passed on."""
        self._large = Members()
        for data in self._data:
            self._large.feed(data)
            self._large.feed(b"\n")
        self._data.clear()
        line = bytes(self._line)
        self._line.clear()
        if line:
            self._pass(line)

    def _pass(self, part: bytes, *, is_last: bool = False) -> None:
        """Pass on a part of a large event's line, once it is known to be data."""
        large = self._large
        if large is None:
            return
        if self._is_passing:
            if self._is_data:
                large.feed(part)
        else:
            self._line += part
            if len(self._line) >= _FIELD_BYTES or is_last:
                line = bytes(self._line)
                if self._at_start:
                    self._at_start = False
                    line = line.removeprefix(_BOM)
                data = self._data_of(line)
                self._is_passing = True
                self._is_data = data is not None
                if data is not None:
                    large.feed(data)
                self._line.clear()
        if is_last:
            if self._is_data:
                large.feed(b"\n")
            self._is_passing = False

    def _dispatch(self) -> None:
        lines, self._data = self._data, []
        large, self._large, self._held, self._is_bare = self._large, None, 0, False
        if large is not None:
            document = large.document()
            self._take(document, find_errors(document), works=large.holds_output(self._wire))
        elif lines:
            self._event(lines[0] if len(lines) == 1 else b"\n".join(lines))

    def _event(self, data: bytes) -> None:
        size = len(data)
        if size < _PING_BYTES and self._is_no_payload(data):
            return
        self.events += 1
        self.payload_bytes += size
        self._smallest = min(self._smallest, size)
        if not self._may_skim or any(data.find(mark) >= 0 for mark in self._marks):
            self._read(data)

    def _is_no_payload(self, data: bytes) -> bool:
        """Return whether data is the stream's end, which is recorded, or a keep-alive."""
        if data.strip() == _DONE:
            self.done = True
            return True
        return not data or (
            any(mark in data for mark in marks(self._wire.pings)) and _kind_of(parsed_answer(data)) in self._wire.pings
        )

    def _read(self, data: bytes) -> None:
        document = parsed_answer(data)
        if document:
            self._take(document, errors_in(data, document))
        else:
            document, works = read_anyhow(self._wire, data)
            self._take(document, find_errors(document), works=works)

    def _take(self, document: dict[str, object], errors: tuple[AnswerError, ...], *, works: bool = False) -> None:
        kind = _kind_of(document)
        works = works or carries_work(self._wire, document)
        if self.generation_id is None:
            self.generation_id = find_id(document)
        if (usage := find_usage(document)) is not None:
            self.usage = merged(self.usage, usage)
        if usage is not None and usage.cost_nano is not None:
            self.is_outdone = works or kind in self._wire.starts
        elif works:
            self.is_outdone = True
        if works:
            self.has_work = True
        if errors:
            self.errors = (self.errors + errors)[:MAX_ERRORS]
        if kind in self._wire.ends:
            self.done = True
        # After a stated cost every event is parsed, as work may follow; otherwise only events with a searched mark.
        states_cost = self.usage is not None and self.usage.cost_nano is not None
        self._may_skim = (
            self.has_work
            and (self.generation_id is not None or self.events > _ID_ATTEMPTS)
            and (self.is_outdone or not states_cost)
        )


def _kind_of(document: dict[str, object]) -> str | None:
    """Return the `type` of an event; None for one that is no word."""
    kind = document.get("type")
    return kind if isinstance(kind, str) else None
