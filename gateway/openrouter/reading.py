"""Reads a copy of an answer for the meter: encoded or plain, a stream of events or one document.

Rule: bytes decide, not headers. The first byte that is not a blank decides between stream and document. An answer that
cannot be decoded is not read, and its cost is looked up.
"""

from gateway.openrouter.dialects import Wire
from gateway.openrouter.encodings import Decoder, Undecodable, is_encoded, is_gzip
from gateway.openrouter.json_body import JsonScanner
from gateway.openrouter.scanner import Scanner
from gateway.openrouter.sse import SseScanner

_BLANKS = b" \t\r\n"
_DOCUMENT_STARTS = (b"{", b"[")
_UNDECIDED = Scanner()


class Reading:
    """Reads one answer, in any split."""

    scanner: Scanner = _UNDECIDED
    _decoder: Decoder | None = None
    is_blind = False
    """Whether its coding cannot be decoded, so that its content is unknown."""
    unread_bytes = 0

    def __init__(self, wire: Wire, coding: str | None = None) -> None:
        self._wire = wire
        if coding is not None and is_encoded(coding):
            self._decoder = Decoder(coding)
            self.feed = self._decode  # type: ignore[method-assign]

    @property
    def is_decided(self) -> bool:
        """Whether the form (stream or document) is decided."""
        return self.scanner is not _UNDECIDED

    @property
    def is_event_stream(self) -> bool:
        """Whether it is a stream of events, by the bytes so far."""
        return self.scanner.is_event_stream

    @property
    def is_encoded(self) -> bool:
        """Whether its bytes are encoded, so that no event of ours can be inserted or appended."""
        return self._decoder is not None

    def _decide(self, chunk: bytes) -> None:
        start = chunk.lstrip(_BLANKS)
        if start.startswith(_DOCUMENT_STARTS):
            scanner: Scanner = JsonScanner(self._wire)
        elif not start:
            return
        elif self._decoder is None and is_gzip(start):
            self._decoder = Decoder("gzip")
            self.feed = self._decode  # type: ignore[method-assign]
            self._decode(start)
            return
        else:
            scanner = SseScanner(self._wire)
        self.scanner = scanner
        if self._decoder is None:
            self.feed = scanner.feed  # type: ignore[method-assign]
        scanner.feed(start)

    feed = _decide
    """Takes the next bytes of the body. Once its form is decided, an instance has its own."""

    def finish(self, last: bytes = b"") -> None:
        """Read the rest at the end of the body, complete or not. `last`: what was not fed of a complete one."""
        if self._decoder is None:
            scanner = self.scanner
            if scanner is _UNDECIDED:
                last = last.lstrip(_BLANKS)
                if last.startswith(_DOCUMENT_STARTS):
                    scanner = self.scanner = JsonScanner(self._wire)
            if scanner is not _UNDECIDED:
                scanner.finish(last)
                return
        if last:
            self.feed(last)
        if self._decoder is not None and not self.is_blind:
            try:
                for plain in self._decoder.finish():
                    self._read(plain)
            except Undecodable:
                self.is_blind = True
        self.scanner.finish()

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
