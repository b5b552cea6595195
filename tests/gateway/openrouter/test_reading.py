"""An answer is read by its bytes: what it is, how it is encoded, and where it ends."""

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.openrouter.dialects import WIRE
from gateway.openrouter.reading import Reading
from tests.gateway.openrouter.scans import facts, pieces
from tests.gateway.wire_cases import BLANKS, CHAT, CODINGS, COMMENT, COST_NANO, PAGE, SAMPLES, DialectSample

EACH = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.dialect.value)


def read(sample: DialectSample, *chunks: bytes, coding: str | None = None) -> Reading:
    reading = Reading(WIRE[sample.dialect], coding)
    for chunk in chunks:
        reading.feed(chunk)
    reading.finish()
    return reading


@EACH
@pytest.mark.parametrize("coding", [None, *CODINGS])
@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(min_value=0), max_size=10), is_stream=st.booleans(), blanks=st.booleans())
def test_splits_never_change_what_is_read(
    sample: DialectSample, coding: str | None, cuts: list[int], *, is_stream: bool, blanks: bool
) -> None:
    """In every dialect, form and coding: the cost, the id, the end, and that there was work."""
    body = (BLANKS if blanks else b"") + (sample.stream if is_stream else sample.document)
    sent = body if coding is None else CODINGS[coding](body)
    reading, whole = read(sample, *pieces(sent, cuts), coding=coding), read(sample, sent, coding=coding)
    assert facts(reading.scanner) == facts(whole.scanner)
    assert reading.scanner.usage is not None
    assert (reading.scanner.usage.cost_nano, reading.scanner.generation_id) == (COST_NANO, "gen-1")
    assert (reading.scanner.has_work, reading.scanner.done) == (True, True)
    assert reading.is_event_stream == is_stream
    assert reading.is_encoded == (coding is not None)


def test_the_first_byte_that_is_no_blank_decides() -> None:
    """Comments begin a stream, a brace a document; blanks decide nothing."""
    assert read(CHAT, COMMENT).is_event_stream
    assert not read(CHAT, b"  {").is_event_stream
    assert not read(CHAT, BLANKS).is_decided
    assert not read(CHAT, PAGE).scanner.has_work


def test_gzip_without_a_label_is_noticed() -> None:
    """Its first byte is that of no text."""
    sent = gzip.compress(CHAT.stream)
    for chunks in ([sent], [sent[:1], sent[1:]]):
        reading = read(CHAT, *chunks)
        assert reading.is_encoded
        assert reading.scanner.done


def test_what_cannot_be_decoded_is_counted_and_not_read() -> None:
    """Of undecodable bytes only the number is known."""
    reading = read(CHAT, b"\xff" * 40, b"\xff" * 60, coding="zstd")
    assert (reading.is_blind, reading.unread_bytes) == (True, 100)
    assert not reading.scanner.has_work
