"""A pure scanner of an answer that is a stream of events: reads bytes in any split, finds usage, id, errors, the end.

It buffers at most one event, parses only the events that it must, and never raises.
Rules, from recordings: a non-null `usage` counts at any place, the last one replaces earlier ones, an error is not the
end.
"""

import re
from operator import methodcaller

from gateway.openrouter.dialects import FAILURES, Wire, carries_work, marks
from gateway.openrouter.json_body import MAX_ERRORS
from gateway.openrouter.members import Members, looks_like_output, read_anyhow
from gateway.openrouter.usage import AnswerError, Usage, find_errors, find_id, find_usage, merged, parsed_answer

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
_SKIMMED_BYTES = len(b"data: ") + _PING_BYTES

_LF = ord("\n")
_DONE = b"[DONE]"
_OBJECT = b"data: {"
# A single line that is a complete event: data, or a comment.
_is_one_line = methodcaller("startswith", (b"data: ", b":"))
_BOM = b"\xef\xbb\xbf"
_KNOWN_FIELDS = (b":", b"data", b"event", b"id", b"retry")
# The bytes of a line that suffice to recognise it.
_HEAD_BYTES = len(b"data: ")
_WORTH_PARSING = re.compile(
    rb'"(?:usage|error)"\s*:\s*[{"]|"type"\s*:\s*"(?:%b)"' % b"|".join(re.escape(kind.encode()) for kind in FAILURES)
)


class SseScanner:
    """Scans one `text/event-stream` body: LF, CRLF or CR, comments, multi-line data, BOM, no blank line at the end."""

    is_event_stream = True

    def __init__(self, wire: Wire, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self.usage: Usage | None = None
        self.generation_id: str | None = None
        self.errors: tuple[AnswerError, ...] = ()
        self.done = False
        self.has_work = False
        self.is_outdone = False
        """Whether work came with or after the last stated cost, so that more may be owed."""
        self.payload_bytes = 0
        self.events = 0
        self._wire = wire
        self._end_marks = marks(wire.ends)
        self._telling_marks = (b'"usage"', b'"error"', *self._end_marks)
        self._ping_marks = marks(wire.pings)
        self._max_event_bytes = max_event_bytes
        self._line = bytearray()  # the unfinished line; in a large event its first bytes
        self._data: list[bytes] = []  # data lines of the unfinished event
        self._held = 0
        self._large: Members | None = None  # the unfinished event, if it is too large to buffer
        self._is_passing = False  # whether the rest of the line is given to `_large` directly
        self._is_data = False  # whether that line is data
        self._is_bare = False
        self._after_cr = False
        self._at_start = True
        self._smallest = 0
        self._may_skim = False

    @property
    def completion_bytes(self) -> int:
        """The bytes of one token for each event, plus its payload beyond that of the smallest event, the envelope."""
        return _BYTES_PER_TOKEN * self.events + self.payload_bytes - self.events * self._smallest

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes of the stream."""
        if self._may_skim and self._skims_one(chunk):
            return
        if not chunk:
            return
        if self._is_whole(chunk) and self._takes_events(chunk):
            return
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        lines = chunk.splitlines()
        self._after_cr = chunk.endswith(b"\r")
        rest = b"" if self._after_cr or chunk.endswith(b"\n") or not lines else lines.pop()
        for line in lines:
            self._end_line(line)
        if rest:
            self._keep(rest)

    def finish(self) -> None:
        """Read the last event, even without its line end or blank line."""
        if self._line or self._is_passing:
            self._end_line(b"")
        self._dispatch()

    def _is_whole(self, chunk: bytes) -> bool:
        """Return whether the chunk consists of complete events, as most do, so that none of it must be buffered."""
        return (
            chunk.endswith(b"\n\n")
            and not (self._line or self._data or self._large)
            and len(chunk) <= self._max_event_bytes
            and b"\r" not in chunk
        )

    def _skims_one(self, chunk: bytes) -> bool:
        """Count the most common chunk: one complete event on one line without a searched mark."""
        size = len(chunk) - 8
        if (
            chunk.find(b"\n") != size + 6
            or not chunk.startswith(_OBJECT)
            or chunk[-1] != _LF
            or chunk.find(b"\r") >= 0
            or self._line
            or self._data
            or self._large is not None
            or size < _PING_BYTES
            or self._tells(chunk)
        ):
            return False
        self._after_cr = False
        self._count(size)
        return True

    def _takes_events(self, chunk: bytes) -> bool:
        """Read complete events and comments of one line each; return False if the chunk has others.

        Once there is work and an id, only usage, errors and the end are searched.
        """
        events = chunk.split(b"\n\n")
        events.pop()
        if chunk.count(b"\n") != 2 * len(events) or not all(map(_is_one_line, events)):
            return False
        self._at_start = self._after_cr = False
        taken = 0
        while taken < len(events) and not self._may_skim:
            self._take_line(events[taken])
            taken += 1
        quiet = chunk.count(b"\n\n", 0, self._first_mark(chunk))
        if taken < quiet:
            self._skim(events[taken:quiet])
            taken = quiet
        for event in events[taken:]:
            self._take_line(event)
        return True

    def _take_line(self, event: bytes) -> None:
        """Read an event or a comment of one line."""
        if not event.startswith(b":"):
            self._event(event[6:])

    def _skim(self, events: list[bytes]) -> None:
        """Count events without a searched mark."""
        sizes = [len(event) - 6 for event in events if len(event) >= _SKIMMED_BYTES and event.startswith(_OBJECT)]
        if len(sizes) == len(events):
            self.events += len(sizes)
            self.payload_bytes += sum(sizes)
            self._smallest = min(self._smallest, *sizes)
        else:
            for event in events:
                self._take_line(event)

    def _first_mark(self, chunk: bytes) -> int:
        """Return the position of the first searched mark; the chunk's length if there is none."""
        first = len(chunk)
        for mark in self._telling_marks:
            at = chunk.find(mark, 0, first)
            if at >= 0:
                first = at
        return first

    def _tells(self, data: bytes) -> bool:
        """Return whether an event has a searched mark.

        `find` is used because `in` first tests its operand for a number, which takes as long as the search.
        """
        for mark in self._telling_marks:  # noqa: SIM110 - a generator takes twice as long as its few substring tests
            if data.find(mark) >= 0:
                return True
        return False

    def _count(self, size: int) -> None:
        """Count one event of that many bytes."""
        self.events += 1
        self.payload_bytes += size
        if size < self._smallest or self.events == 1:
            self._smallest = size

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
            if len(self._line) >= _HEAD_BYTES or is_last:
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
            self._take(large.document(), works=large.holds_output(self._wire))
        elif lines:
            self._event(lines[0] if len(lines) == 1 else b"\n".join(lines))

    def _event(self, data: bytes) -> None:
        size = len(data)
        if size < _PING_BYTES and self._is_no_payload(data):
            return
        self._count(size)
        if not self._may_skim or self._is_worth_parsing(data):
            self._read(data)

    def _is_no_payload(self, data: bytes) -> bool:
        """Return whether data is the stream's end, which is recorded, or a keep-alive."""
        if data.strip() == _DONE:
            self.done = True
            return True
        return not data or (
            any(mark in data for mark in self._ping_marks) and _kind_of(parsed_answer(data)) in self._wire.pings
        )

    def _is_worth_parsing(self, data: bytes) -> bool:
        """Return whether an event must be parsed, mostly by substring tests, else by a pattern."""
        if not self._tells(data):
            return False
        return _WORTH_PARSING.search(data) is not None or any(mark in data for mark in self._end_marks)

    def _read(self, data: bytes) -> None:
        document, works = parsed_answer(data), False
        if not document:
            document, works = read_anyhow(self._wire, data)
        self._take(document, works=works)

    def _take(self, document: dict[str, object], *, works: bool) -> None:
        kind = _kind_of(document)
        works = works or carries_work(self._wire, document)
        if self.generation_id is None:
            self.generation_id = find_id(document)
        usage = find_usage(document)
        self.usage = merged(self.usage, usage)
        if usage is not None and usage.cost_nano is not None:
            self.is_outdone = works or kind in self._wire.starts
        elif works:
            self.is_outdone = True
        self.has_work = self.has_work or works
        self.errors = (self.errors + find_errors(document))[:MAX_ERRORS]
        self.done = self.done or kind in self._wire.ends
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
