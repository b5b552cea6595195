"""A pure scanner of an answer that is one JSON document: reads bytes in any split, finds usage, id and errors.

It buffers at most WHOLE_BODY_BYTES and the needed members, and never raises. `Reading` drops leading blanks.
"""

import re

from gateway.openrouter.dialects import Wire, carries_work
from gateway.openrouter.members import Members
from gateway.openrouter.scanner import MAX_ERRORS, Scanner
from gateway.openrouter.usage import errors_in, find_errors, find_id, find_usage, parsed_answer

# Larger bodies are mostly vectors or base64. Their members are extracted without a full parse, which for 30 MB of
# embeddings would stop every other stream of the process for seconds.
WHOLE_BODY_BYTES = 256 * 1024
# Up to this size a body is parsed whenever it may be complete; a larger one is walked, each byte once.
_SMALL_BYTES = 16 * 1024

_BLANKS = b" \t\r\n"
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
            self._id = leading[1].decode() if leading else find_id(self._document)
        return self._id

    @property
    def has_work(self) -> bool:
        """Whether any output was delivered. It is looked for when it is asked for, which a stated cost spares."""
        return self._is_work_broken_off or carries_work(self._wire, self._document)

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

    def finish(self) -> None:
        """Read the body; of a truncated or too large one, the complete members."""
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
