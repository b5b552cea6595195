"""Content codings are read at any split, within bounds, and by their bytes rather than by their label."""

import gzip
import zlib

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.openrouter.encodings import Decoder, Undecodable, decoded, is_encoded, is_gzip
from tests.gateway.openrouter.scans import pieces
from tests.gateway.wire_cases import CODINGS

PLAIN = b'{"id":"gen-1","usage":{"cost":0.5}}' * 50
EACH = pytest.mark.parametrize("coding", list(CODINGS))


def through(coding: str, *chunks: bytes, most: int = 1 << 20) -> bytes:
    decoder = Decoder(coding, most)
    return b"".join([*(plain for chunk in chunks for plain in decoder.feed(chunk)), *decoder.finish()])


@EACH
@settings(max_examples=60, deadline=None)
@given(plain=st.binary(max_size=2000), cuts=st.lists(st.integers(min_value=0), max_size=12))
def test_splits_never_change_what_is_read(coding: str, plain: bytes, cuts: list[int]) -> None:
    """One byte at a time or whole, also of an answer of no bytes."""
    body = b'{"a":' + plain
    assert through(coding, *pieces(CODINGS[coding](body), cuts)) == body
    assert decoded(CODINGS[coding](body), coding, 4096) == body


@EACH
def test_plain_bytes_under_a_label_are_plain(coding: str) -> None:
    """An edge may take the coding off and leave the label."""
    for body in (PLAIN, b"data: {}\n\n", b": OPENROUTER PROCESSING\n\n", b"<html>", b"\n   \n"):
        assert through(coding, body) == body
        assert through(coding, *(body[at : at + 1] for at in range(len(body)))) == body


@EACH
def test_what_unfolds_to_too_much_is_not_read(coding: str) -> None:
    """A few kilobytes may hold gigabytes; no more than the bound is unfolded."""
    bomb = CODINGS[coding](b"[" + bytes(5_000_000))
    assert len(bomb) < 100_000
    with pytest.raises(Undecodable):
        through(coding, bomb)
    with pytest.raises(Undecodable):
        decoded(bomb, coding, 1000)


@EACH
@settings(max_examples=60, deadline=None)
@given(junk=st.binary(min_size=1, max_size=60))
def test_garbage_is_read_or_refused(coding: str, junk: bytes) -> None:
    """Garbage is decoded or raises Undecodable, and nothing else."""
    for body in (junk, CODINGS[coding](PLAIN)[:-20] + junk):
        try:
            through(coding, body)
        except Undecodable:
            continue


@EACH
def test_what_broke_off_is_read_as_far_as_it_came(coding: str) -> None:
    """Truncated input is decoded up to its end."""
    whole = CODINGS[coding](bytes(range(33, 127)) * 40 + PLAIN)
    assert (bytes(range(33, 127)) * 40 + PLAIN).startswith(through(coding, whole[: len(whole) // 2]))


def test_an_unknown_coding_is_not_read() -> None:
    """zstd, and two codings one over the other."""
    for coding in ("zstd", "gzip, br", "compress"):
        with pytest.raises(Undecodable):
            through(coding, b"\x28\xb5\x2f\xfd" + PLAIN)


def test_gzip_is_told_by_its_bytes() -> None:
    """Under another label, under none, and of several members."""
    twice = gzip.compress(b"one") + gzip.compress(b"two") + b"\0\0"
    assert through("gzip", twice) == through("br", twice) == decoded(twice, None, 99) == b"onetwo"
    assert is_gzip(twice)
    assert not is_gzip(b"{}")
    assert decoded(PLAIN, None, 1) == decoded(PLAIN, "identity", 1) == PLAIN
    assert [is_encoded(each) for each in (None, "", " Identity ", "gzip")] == [False, False, False, True]


def test_deflate_is_read_with_and_without_its_head() -> None:
    """Both are sent under the one name (RFC 9110 §8.4.1.2)."""
    assert through("deflate", zlib.compress(PLAIN)) == through("deflate", zlib.compress(PLAIN, wbits=-15)) == PLAIN
    assert through("br", brotli.compress(PLAIN)) == PLAIN
