"""The answer side under fire: every fixture of every dialect, split, encoded, cut short and labelled at random.

Never a crash, never an estimate without delivered work, never free with a stated cost.
"""

import json
import zlib

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.metered.meter import Meter, Reconcile, Settle, Void
from gateway.openrouter.dialects import WIRE
from tests.gateway.openrouter.scans import pieces
from tests.gateway.recordings import RECORDINGS
from tests.gateway.wire_cases import CASES, CODINGS, COST_NANO, SAMPLES, DialectSample

EACH = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.dialect.value)
CODED = st.sampled_from([None, *CODINGS])
CUTS = st.lists(st.integers(min_value=0), max_size=10)
# Marks that occur only in a fixture's output: a cut before the mark has no work, a cut after it has.
_WORK = (b'"content": "hi"', b'"text": "hi"', b'"delta": "hi"', b'"embedding": [0.5,')
_BEGUN = tuple(mark[:-3] for mark in _WORK)
_COST = (b'"cost": 0.0005, "is_byok": false}', b'"cost": 0.0005}')


def plain_of(sent: bytes, coding: str | None) -> bytes:
    """Return what a decoder of the coding gets from the received bytes."""
    if coding is None:
        return sent
    if coding == "br":
        return brotli.Decompressor().process(sent) if sent else b""
    return zlib.decompressobj(-15 if coding == "Deflate" else 47).decompress(sent)


def metered(sample: DialectSample, sent: bytes, cuts: list[int], coding: str | None, *, ends: bool) -> Meter:
    meter = Meter(WIRE[sample.dialect])
    meter.sent()
    meter.opened(200, coding=coding)
    for piece in pieces(sent, cuts):
        meter.body(piece)
        assert isinstance(meter.is_done, bool)
        assert meter.payload >= 0
    (meter.ended if ends else meter.cut)()
    return meter


@EACH
@settings(max_examples=150, deadline=None)
@given(
    parts=st.lists(st.sampled_from(["start", "work", "usage", "end", "error", "document"]), max_size=5),
    stop=st.integers(min_value=0),
    is_short=st.booleans(),
    cuts=CUTS,
    coding=CODED,
    ends=st.booleans(),
)
def test_what_is_owed_follows_from_what_came(
    sample: DialectSample,
    parts: list[str],
    stop: int,
    is_short: bool,
    cuts: list[int],
    coding: str | None,
    ends: bool,
) -> None:
    """Parts in any order, cut anywhere: a complete cost is owed; without work, a complete answer owes nothing."""
    body = b"".join(getattr(sample, part) for part in parts)
    encoded = body if coding is None else CODINGS[coding](body)
    sent = encoded[: stop % (len(encoded) + 1)] if is_short else encoded
    came = plain_of(sent, coding)
    meter = metered(sample, sent, cuts, coding, ends=ends)
    owed = meter.outcome()
    # Behind a document nothing is read: it is no stream any more.
    is_stream = not came.lstrip().startswith(b"{")
    states_cost = any(mark in came for mark in _COST) and (is_stream or parts == ["document"])
    if states_cost:
        assert isinstance(owed, Settle) or (isinstance(owed, Reconcile) and not owed.is_free and owed.usage is not None)
        assert meter.usage is not None
        assert meter.usage.cost_nano == COST_NANO
    # A truncated coding has no end, and the undecoded rest may be work.
    is_over = (ends or b"data: [DONE]" in came) and (coding is None or sent == encoded)
    if is_over and not any(mark in came for mark in _BEGUN) and not states_cost:
        assert isinstance(owed, Void) or (isinstance(owed, Reconcile) and owed.is_free) or meter.states_cost
    if any(mark in came for mark in _WORK) and is_stream:
        assert not isinstance(owed, Void)
        assert not (isinstance(owed, Reconcile) and owed.is_free)


@EACH
@settings(max_examples=60, deadline=None)
@given(
    case=st.sampled_from([case for case in CASES if "MB" not in case.name]),
    stop=st.integers(min_value=0),
    cuts=CUTS,
    label=CODED,
    ends=st.booleans(),
)
def test_no_answer_under_a_wrong_label_raises(
    sample: DialectSample, case: object, stop: int, cuts: list[int], label: str | None, ends: bool
) -> None:
    """Every case's bytes, cut short, under any coding's name."""
    body = b"".join(case.pieces(sample))  # type: ignore[attr-defined]
    sent = body[: stop % (len(body) + 1)]
    owed = metered(sample, sent, cuts, label, ends=ends).outcome()
    assert isinstance(owed, Settle | Void | Reconcile)


@settings(max_examples=200, deadline=None)
@given(
    recording=st.sampled_from(RECORDINGS), stop=st.integers(min_value=0), cuts=CUTS, coding=CODED, ends=st.booleans()
)
def test_a_recorded_shape_cut_anywhere_is_never_free_with_its_cost(
    recording: object, stop: int, cuts: list[int], coding: str | None, ends: bool
) -> None:
    """In any coding: once the usage is complete, its cost is owed or looked up."""
    body: bytes = recording.body  # type: ignore[attr-defined]
    plain = body[: stop % (len(body) + 1)]
    sent = plain if coding is None else CODINGS[coding](plain)
    sample = SAMPLES[3] if b'"response.created"' in body else SAMPLES[0]
    owed = metered(sample, sent, cuts, coding, ends=ends).outcome()
    cost = recording.cost  # type: ignore[attr-defined]
    if cost is not None and (plain.endswith(b"\n\n") and b'"cost":' in plain):
        stated = owed if isinstance(owed, Settle) else None
        assert stated is not None or (isinstance(owed, Reconcile) and owed.usage is not None and not owed.is_free)


@settings(max_examples=150, deadline=None)
@given(chunks=st.lists(st.binary(max_size=60), max_size=8), coding=st.sampled_from([None, *CODINGS, "zstd", "x"]))
def test_garbage_is_metered(chunks: list[bytes], coding: str | None) -> None:
    """Any bytes with any Content-Type are metered without an exception."""
    for sample in SAMPLES:
        assert metered(sample, b"".join(chunks), [], coding, ends=True).outcome() is not None


def test_the_marks_of_this_test_stand_in_every_fixture() -> None:
    """The fuzz test relies on these marks to classify a truncated answer."""
    for sample in SAMPLES:
        for body in (sample.document, sample.work):
            assert any(mark in body for mark in _WORK), sample.dialect
        for body in (sample.document, sample.usage):
            assert any(mark in body for mark in _COST), sample.dialect
        assert not any(mark in sample.start + sample.error for mark in (*_WORK, *_COST))
        assert json.loads(sample.document)
