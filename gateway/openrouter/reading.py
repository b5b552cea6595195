"""Reads a copy of an answer for the meter: encoded or plain, a stream of events or one document.

Rule: bytes decide, not headers. The first byte that is not a blank decides between stream and document. An answer that
cannot be decoded is not read, and its cost is looked up.
"""

from collections.abc import Callable
from typing import Protocol

from gateway.openrouter.dialects import Wire
from gateway.openrouter.encodings import Decoder, Undecodable, is_encoded, is_gzip
from gateway.openrouter.json_body import JsonScanner
from gateway.openrouter.sse import SseScanner
from gateway.openrouter.usage import AnswerError, Usage

_BLANKS = b" \t\r\n"
_DOCUMENT_STARTS = (b"{", b"[")


class Scanner(Protocol):
    """The values that the meter needs of an answer, in either form."""

    usage: Usage | None
    generation_id: str | None
    errors: tuple[AnswerError, ...]
    has_work: bool
    payload_bytes: int
    events: int
    is_event_stream: bool

    @property
    def done(self) -> bool:
        """Whether the answer's end was read."""

    @property
    def is_outdone(self) -> bool:
        """Whether work came with or after the last stated cost, so that more may be owed."""

    @property
    def completion_bytes(self) -> int:
        """The approximate number of bytes of generated text, for the estimate only."""

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes of the body, in any split."""

    def finish(self) -> None:
        """Read the rest at the end of the body, complete or not."""


class Reading:
    """Reads one answer. `feed` takes the next bytes of the body, in any split."""

    def __init__(self, wire: Wire, coding: str | None = None) -> None:
        self._wire = wire
        self._decoder = Decoder(coding) if coding is not None and is_encoded(coding) else None
        self.scanner: Scanner = JsonScanner(wire)
        self.is_blind = False
        """Whether its coding cannot be decoded, so that its content is unknown."""
        self.is_decided = False
        """Whether the form (stream or document) is decided."""
        self.unread_bytes = 0
        self.feed: Callable[[bytes], None] = self._decide if self._decoder is None else self._decode

    @property
    def is_event_stream(self) -> bool:
        """Whether it is a stream of events, by the bytes so far."""
        return self.is_decided and self.scanner.is_event_stream

    @property
    def is_encoded(self) -> bool:
        """Whether its bytes are encoded, so that no event of ours can be inserted or appended."""
        return self._decoder is not None

    def finish(self) -> None:
        """Read the rest at the end of the body, complete or not."""
        if self._decoder is not None and not self.is_blind:
            try:
                for plain in self._decoder.finish():
                    self._read(plain)
            except Undecodable:
                self.is_blind = True
        self.scanner.finish()

    def _decide(self, chunk: bytes) -> None:
        start = chunk.lstrip(_BLANKS)
        if not start:
            return
        if self._decoder is None and is_gzip(start):
            self._decoder = Decoder("gzip")
            self.feed = self._decode
            self._decode(start)
            return
        self.is_decided = True
        if not start.startswith(_DOCUMENT_STARTS):
            self.scanner = SseScanner(self._wire)
        if self._decoder is None:
            self.feed = self.scanner.feed
        self.scanner.feed(start)

    def _decode(self, chunk: bytes) -> None:
        if self.is_blind or self._decoder is None:
            self.unread_bytes += len(chunk)
            return
        try:
            for plain in self._decoder.feed(chunk):
                self._read(plain)
        except Undecodable:
            self.is_blind = True
            self.unread_bytes += len(chunk)

    def _read(self, plain: bytes) -> None:
        if self.is_decided:
            self.scanner.feed(plain)
        else:
            self._decide(plain)
