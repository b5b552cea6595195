"""A pure scanner of an answer that is one JSON document: reads bytes in any split, finds usage, id and errors.

It buffers at most WHOLE_BODY_BYTES and the needed members, and never raises. Keep-alive blanks may come first.
"""

import re

from gateway.openrouter.dialects import Wire, carries_work
from gateway.openrouter.members import Members
from gateway.openrouter.usage import AnswerError, Usage, find_errors, find_id, find_usage, parsed_answer

# Larger bodies are mostly vectors or base64. Their members are extracted without a full parse, which for 30 MB of
# embeddings would stop every other stream of the process for seconds.
WHOLE_BODY_BYTES = 256 * 1024
MAX_ERRORS = 8
_LEADING_BYTES = 512
# Up to this size a body is parsed whenever it may be complete; a larger one is walked, each byte once.
_SMALL_BYTES = 16 * 1024
# The most blanks after the end with which it is still recognised before the next piece.
_BEHIND_BYTES = 64

# Each matching id can be stored (`usage.fit_id`).
_LEADING_ID = re.compile(rb'\s*\{\s*"id"\s*:\s*"([!#-\[\]-~]{1,128})"')


class JsonScanner:
    """Scans one JSON body. It is parsed at `finish`; an id at its beginning is found earlier."""

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
        self._body = bytearray()  # all of it, until it is too large
        self._document: dict[str, object] = {}  # the document, once parsed
        self._members: Members | None = None  # used if it is too large to be parsed, or truncated
        self._walked = 0  # how many bytes of `_body` were given to `_members`
        self._is_large = False

    @property
    def completion_bytes(self) -> int:
        """The bytes of the body without leading whitespace."""
        return self.payload_bytes

    @property
    def is_outdone(self) -> bool:
        """Whether work came with or after the stated cost: in one document every output comes with it."""
        return self.has_work

    @property
    def done(self) -> bool:
        """Whether the document is complete; upstream may hang open after it."""
        if self._document:
            return True
        if not self._is_large and self._body[-_BEHIND_BYTES:].rstrip().endswith(b"}"):
            if len(self._body) <= _SMALL_BYTES:
                self._document = parsed_answer(bytes(self._body))
                return bool(self._document)
            self._walk()
        return self._members is not None and self._members.is_whole

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes of the body."""
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
        """Parse the body; of a truncated or too large one, read the complete members."""
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
