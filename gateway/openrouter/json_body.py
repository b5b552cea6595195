"""A pure scanner for an answer that is one JSON document: bytes in at any split; usage, id and errors out.

It holds no more than WHOLE_BODY_BYTES and the members that count, and never raises. Keep-alive blanks stand in front.
"""

import re

from gateway.openrouter.dialects import Wire, carries_work
from gateway.openrouter.members import Members
from gateway.openrouter.usage import AnswerError, Usage, find_errors, find_id, find_usage, parsed_answer

# Above this a body is mostly vectors or base64: its members are taken out as it passes (a full parse of 30 MB of
# embeddings would hold up every other stream of the process for seconds).
WHOLE_BODY_BYTES = 256 * 1024
MAX_ERRORS = 8
_LEADING_BYTES = 512
# Up to this size a body is parsed whenever it may be whole; a larger one is walked, each byte once.
_SMALL_BYTES = 16 * 1024
# Blanks behind the end that may hide it until the next piece.
_BEHIND_BYTES = 64

# Each id that it matches is fit to be stored (`usage.fit_id`).
_LEADING_ID = re.compile(rb'\s*\{\s*"id"\s*:\s*"([!#-\[\]-~]{1,128})"')


class JsonScanner:
    """Scans one JSON body; reads it at `finish`, the id earlier if it leads."""

    is_event_stream = False

    def __init__(self, wire: Wire, whole_body_bytes: int = WHOLE_BODY_BYTES) -> None:
        self._wire = wire
        self.usage: Usage | None = None
        self.generation_id: str | None = None
        self.errors: tuple[AnswerError, ...] = ()
        self.has_work = False
        self.payload_bytes = 0
        self.events = 0
        self._whole_body_bytes = whole_body_bytes
        self._body = bytearray()  # the whole of it, until it is too large
        self._document: dict[str, object] = {}  # the whole of it, once it could be parsed
        self._members: Members | None = None  # made when it is too large for that, or breaks off
        self._walked = 0  # how much of `_body` the members have seen
        self._is_large = False

    @property
    def completion_bytes(self) -> int:
        """Bytes of the body without the whitespace in front of it."""
        return self.payload_bytes

    @property
    def is_outdone(self) -> bool:
        """Whether work came with or after the last stated cost: here both are said in one."""
        return self.has_work

    @property
    def done(self) -> bool:
        """Whether the document is whole; upstream may hang open after it."""
        if self._document:
            return True
        if not self._is_large and self._body[-_BEHIND_BYTES:].rstrip().endswith(b"}"):
            if len(self._body) <= _SMALL_BYTES:
                self._document = parsed_answer(bytes(self._body))
                return bool(self._document)
            self._walk()
        return self._members is not None and self._members.is_whole

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""
        if not self.payload_bytes:
            chunk = chunk.lstrip(b" \t\r\n")
        if not chunk:
            return
        is_head = self.payload_bytes < _LEADING_BYTES
        self.payload_bytes += len(chunk)
        if self._is_large:
            self._walk(chunk)
            return
        self._document = {}
        self._body += chunk
        if is_head and self.generation_id is None and (found := _LEADING_ID.match(self._body)):
            self.generation_id = found[1].decode()
        if len(self._body) > self._whole_body_bytes:
            self._walk()
            self._is_large = True
            self._body.clear()
            self._walked = 0

    def finish(self) -> None:
        """Parse the body; of one that broke off, or is too large, the members count that are whole."""
        document, works = self._document or parsed_answer(bytes(self._body)), False
        if not document:
            members = self._walk()
            document, works = members.document(), members.holds_output(self._wire)
        self.has_work = works or carries_work(self._wire, document)
        self.generation_id = self.generation_id or find_id(document)
        self.usage = find_usage(document)
        self.errors = find_errors(document)[:MAX_ERRORS]

    def _walk(self, chunk: bytes = b"") -> Members:
        if self._members is None:
            self._members = Members()
        self._members.feed(chunk or bytes(self._body[self._walked :]))
        self._walked = len(self._body)
        return self._members
