"""A pure scanner of an answer that is one JSON document: reads bytes in any split, finds usage, id and errors.

It buffers at most WHOLE_BODY_BYTES, a piece, and the needed members, and never raises. `Reading` drops leading blanks.
Most documents end with a usage that states the cost, and then only that end is parsed.
"""

import re

from gateway.openrouter.dialects import Wire, carries_work
from gateway.openrouter.members import Members
from gateway.openrouter.scanner import MAX_ERRORS, Scanner
from gateway.openrouter.usage import (
    ERROR_MARK,
    FAILURE_MARK,
    USAGE_MARK,
    errors_in,
    find_errors,
    find_id,
    find_usage,
    parsed_answer,
)

# Larger bodies are mostly vectors or base64. Their members are extracted without a full parse, which for 30 MB of
# embeddings would stop every other stream of the process for seconds.
WHOLE_BODY_BYTES = 256 * 1024
# Up to this size a body is parsed whenever it may be complete; a larger one is walked, each byte once.
_SMALL_BYTES = 16 * 1024

_BLANKS = b" \t\r\n"
_USAGE, _FIRST_USAGE = b"," + USAGE_MARK + b":{", b"{" + USAGE_MARK + b":{"
# Each matching id can be stored (`usage.fit_id`).
_LEADING_ID = re.compile(rb'\s*\{\s*"id"\s*:\s*"([!#-\[\]-~]{1,128})"')


class JsonScanner(Scanner):
    """Scans one JSON body. It is read at `finish`; its end, and an id at its beginning, are found earlier.

    `whole_body_bytes`: how much of it is buffered, at least _SMALL_BYTES.
    """

    _members: Members | None = None  # used if it is too large to be parsed, or truncated
    _walked = 0  # how many bytes of `_body` were given to `_members`
    _id: str | None = None
    _is_work_broken_off = False  # whether a member that is not complete looks like output
    _is_end_read = False  # whether only the end was parsed, as it states the cost

    def __init__(self, wire: Wire, whole_body_bytes: int = WHOLE_BODY_BYTES) -> None:
        self._wire = wire
        self._whole_body_bytes = whole_body_bytes
        self._body = b""  # all of it, until it is too large
        self._is_large = False
        self._document: dict[str, object] = {}  # the document, if it is complete; after `finish` what is known of it

    @property
    def generation_id(self) -> str | None:
        """The generation id so far: that at the beginning, or of the whole document."""
        if self._id is None:
            leading = _LEADING_ID.match(self._body)
            self._id = leading[1].decode() if leading else find_id(self._known())
        return self._id

    @property
    def has_work(self) -> bool:
        """Whether any output was delivered. It is looked for when it is asked for, which a stated cost spares."""
        document = self._known()
        return self._is_work_broken_off or carries_work(self._wire, document)

    @property
    def is_outdone(self) -> bool:
        """Whether work came with or after the stated cost: in one document all of it comes with it."""
        return self.has_work

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes of the body."""
        self.payload_bytes += len(chunk)
        end = chunk.rstrip(_BLANKS)
        if not self._is_large:
            body = self._body = self._body + chunk
            if len(body) <= _SMALL_BYTES:
                if end:  # Blanks after the end change nothing.
                    self._document = parsed_answer(body) if end.endswith(b"}") else {}
                    self.done = bool(self._document)
                return
            if len(body) > self._whole_body_bytes:
                self._begin_large()
            elif end.endswith(b"}"):
                self._walk()
        else:
            self._walk(chunk)
        if end:
            self._document = {}
            self.done = self._members is not None and self._members.is_whole

    def finish(self, last: bytes = b"") -> None:
        """Read the body; of a truncated or too large one, the complete members."""
        if last:
            if not self._is_large and self._read_end(self._body + last):
                self.payload_bytes += len(last)
                self.done = True
                return
            self.feed(last)
        self._read()

    def _read_end(self, body: bytes) -> bool:
        """Read the usage at the end of a complete body; return whether it states the cost and there is no error.

        In a JSON object the mark can be no part of a string. If what follows ends with the body and is the rest of an
        object, it is that of the outermost: all others are closed before.
        """
        _, mark, end = body.rpartition(_USAGE)
        if not mark or body.partition(ERROR_MARK)[1] or body.partition(FAILURE_MARK)[1]:
            return False
        usage = find_usage(parsed_answer(_FIRST_USAGE + end))
        if usage is None or usage.cost_nano is None:
            return False
        self._body, self.usage, self._is_end_read = body, usage, True
        return True

    def _known(self) -> dict[str, object]:
        """Return the document as far as it is known."""
        if self._is_end_read and not self._document:
            self._document = parsed_answer(self._body) or self._walk().document()
        return self._document

    def _read(self) -> None:
        document = self._document or parsed_answer(self._body)
        if document:
            errors = errors_in(self._body, document)
        else:
            members = self._walk()
            document, self._is_work_broken_off = members.document(), members.holds_output(self._wire)
            errors = find_errors(document)
        self._document = document
        self.usage = find_usage(document)
        if errors:
            self.errors = errors[:MAX_ERRORS]

    def _begin_large(self) -> None:
        """Stop buffering the body; only its members are read from now on."""
        self._id = self.generation_id
        self._walk()
        self._is_large = True
        self._body = b""

    def _walk(self, chunk: bytes = b"") -> Members:
        if self._members is None:
            self._members = Members()
        self._members.feed(chunk or self._body[self._walked :])
        self._walked = len(self._body)
        return self._members
