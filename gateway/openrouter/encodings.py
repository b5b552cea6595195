"""Decodes a copy of encoded answers for the meter, with bounded memory; the relayed bytes are not changed.

Rule: bytes decide, not headers: gzip is recognised by its magic bytes, and a body labelled as encoded may be plain.
"""

import zlib
from collections.abc import Iterator
from typing import Protocol

import brotli

# The most decoded bytes of one answer. The largest real one, thousands of embeddings, has about 30 MB; a malicious one
# of a few kilobytes could decode to gigabytes.
DECODED_BYTES = 64 * 1024 * 1024
# The most bytes decoded at a time.
_SLICE_BYTES = 64 * 1024
# The number of bytes that suffice to recognise a coding.
_TELLING_BYTES = 8
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_OR_ZLIB, _RAW_DEFLATE = 47, -15
_PLAIN_STARTS = (
    b'{"',
    b"{ ",
    b"{\n",
    b"{}",
    b"[",
    b"data:",
    b"event:",
    b"id:",
    b"retry:",
    b": ",
    b":\n",
    b"<",
    b"\xef\xbb\xbf",
)
_GZIP, _DEFLATE, _BROTLI = ("gzip", "x-gzip"), "deflate", "br"


class Undecodable(Exception):
    """The bytes are invalid in their coding, decode to too much, or have an unknown coding."""


class _Inflating(Protocol):
    def feed(self, piece: bytes) -> Iterator[bytes]: ...


class Decoder:
    """Decodes one body by its Content-Encoding. `feed` raises Undecodable; after that it cannot be used."""

    def __init__(self, coding: str, most_bytes: int = DECODED_BYTES) -> None:
        self._coding = coding.strip().lower()
        self._left_bytes = most_bytes
        self._held = b""
        self._inner: _Inflating | None = None

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Decode the next bytes."""
        if self._inner is None:
            piece = self._held = self._held + piece
            if len(piece) < _TELLING_BYTES:
                return
            self._inner = _inflating(self._coding, piece)
        for plain in self._inner.feed(piece):
            self._left_bytes -= len(plain)
            if self._left_bytes < 0:
                raise Undecodable
            yield plain

    def finish(self) -> Iterator[bytes]:
        """Decode a body that is too short for `feed` to have recognised its coding."""
        if self._inner is None and self._held:
            held, self._inner = self._held, _inflating(self._coding, self._held)
            yield from self._inner.feed(held)


def decoded(body: bytes, coding: str | None, most_bytes: int) -> bytes:
    """Decode a whole body; a truncated one up to its end. Raises Undecodable."""
    if not is_encoded(coding) and not body.startswith(_GZIP_MAGIC):
        return body
    decoder = Decoder(coding or "gzip", most_bytes)
    return b"".join((*decoder.feed(body), *decoder.finish()))


def is_encoded(coding: str | None) -> bool:
    """Return whether a Content-Encoding names a coding other than identity."""
    return coding is not None and coding.strip().lower() not in ("", "identity")


def is_gzip(body: bytes) -> bool:
    """Return whether the first one or two bytes are gzip's, with which no text begins."""
    return body[:2] == _GZIP_MAGIC[: len(body[:2])] and body != b""


def _inflating(coding: str, start: bytes) -> _Inflating:
    if start.startswith(_GZIP_MAGIC):
        return _Zlib(_GZIP_OR_ZLIB)
    if start.lstrip(b" \r\n\t").startswith(_PLAIN_STARTS) or not start.strip(b" \r\n\t"):
        return _Plain()
    if coding in _GZIP or coding == _DEFLATE:
        return _Zlib(_GZIP_OR_ZLIB if _has_zlib_head(start) else _RAW_DEFLATE)
    if coding == _BROTLI:
        return _Brotli()
    raise Undecodable


def _has_zlib_head(start: bytes) -> bool:
    """RFC 1950 §2.2."""
    return len(start) > 1 and start[0] & 0x0F == 8 and (start[0] << 8 | start[1]) % 31 == 0


class _Plain:
    def feed(self, piece: bytes) -> Iterator[bytes]:
        yield piece


class _Zlib:
    def __init__(self, window_bits: int) -> None:
        self._window_bits = window_bits
        self._inflating = zlib.decompressobj(window_bits)

    def feed(self, piece: bytes) -> Iterator[bytes]:
        try:
            while piece:
                if self._inflating.eof:
                    # Several gzip members may follow each other (RFC 1952 §2.2); other bytes after one are padding.
                    if not piece.startswith(_GZIP_MAGIC):
                        return
                    self._inflating = zlib.decompressobj(self._window_bits)
                if plain := self._inflating.decompress(piece, _SLICE_BYTES):
                    yield plain
                piece = self._inflating.unused_data if self._inflating.eof else self._inflating.unconsumed_tail
        except zlib.error:
            raise Undecodable from None


class _Brotli:
    def __init__(self) -> None:
        self._inflating = brotli.Decompressor()

    def feed(self, piece: bytes) -> Iterator[bytes]:
        try:
            # The decoder accepts more input while it still has output, so read until the output is empty.
            while plain := self._inflating.process(piece, output_buffer_limit=_SLICE_BYTES):
                yield plain
                piece = b""
        except brotli.error:
            raise Undecodable from None
