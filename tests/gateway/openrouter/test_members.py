"""The members of an object that passes are those that a parser finds, at any split."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.openrouter.dialects import PLACES, WIRE, Dialect
from gateway.openrouter.members import MEMBER_BYTES, Members, looks_like_output
from gateway.openrouter.usage import parsed
from tests.gateway.openrouter.scans import pieces

NAMES = st.sampled_from([*PLACES, "usage", "id", "error", "choices", "type", "cost", "a"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(['{"usage":1}', "\\", '\\"', "]}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=25,
)


def walked(*chunks: bytes) -> Members:
    members = Members()
    for chunk in chunks:
        members.feed(chunk)
    return members


def known(document: dict[str, object]) -> dict[str, object]:
    """What is there, null being nothing."""
    said = {name: value for name, value in document.items() if value is not None}
    within = {
        name: {inner: each for inner, each in value.items() if each is not None}
        for name, value in said.items()
        if name in PLACES and isinstance(value, dict)
    }
    return {name: value for name, value in (said | within).items() if name not in within or value}


@settings(max_examples=400, deadline=None)
@given(
    document=st.dictionaries(NAMES, VALUES, max_size=6),
    cuts=st.lists(st.integers(min_value=0), max_size=8),
    indent=st.sampled_from([None, 1]),
)
def test_members_are_what_a_parser_finds(document: dict[str, object], cuts: list[int], indent: int | None) -> None:
    """At the top and within a place, whatever is nested or written in between."""
    raw = json.dumps(document, indent=indent).encode()
    members = walked(*pieces(raw + b"  \n", cuts))
    assert members.is_whole
    assert members.document() == known(parsed(raw))


@settings(max_examples=300, deadline=None)
@given(chunks=st.lists(st.binary(max_size=40) | st.sampled_from([b'{"a":', b"[", b"}", b'"', b"\\"]), max_size=12))
def test_garbage_never_raises(chunks: list[bytes]) -> None:
    """Any document is walked without an exception."""
    members = walked(*chunks)
    assert isinstance(members.document(), dict)
    members.holds_output(WIRE[Dialect.CHAT])


def test_an_object_counts_once_it_is_whole() -> None:
    """The document may break off right behind it."""
    assert walked(b'{"usage":{"cost":1}').document() == {"usage": {"cost": 1}}
    assert walked(b'{"response":{"usage":{"cost":1}').document() == {"response": {"usage": {"cost": 1}}}
    assert walked(b'{"usage":{"cost":1').document() == {}


def test_of_a_large_member_only_the_beginning_is_kept() -> None:
    """Sixteen megabytes of base64 take sixteen kilobytes."""
    members = walked(b'{"data":[{"b64_json":"', *[b"A" * 65536] * 256, b'"}],"usage":{"cost":1}}')
    assert members.document() == {"usage": {"cost": 1}}
    assert max(len(raw) for raw in members._raw.values()) <= MEMBER_BYTES


def test_a_large_member_is_work_only_where_work_is_delivered() -> None:
    """Tools and instructions that are sent back are as large as they were, and none."""
    filler = b"y" * 100_000
    wire = WIRE[Dialect.RESPONSES]
    assert walked(b'{"output":[{"content":[{"text":"%b"}]}]}' % filler).holds_output(wire)
    assert walked(b'{"response":{"output":[{"content":[{"text":"%b"}]}]}}' % filler).holds_output(wire)
    assert walked(b'{"delta":"%b"}' % filler).holds_output(wire)
    assert not walked(b'{"response":{"instructions":"%b","tools":[{"text":"%b"}]}}' % (filler, filler)).holds_output(
        wire
    )


def test_output_is_told_by_its_name_and_by_being_there() -> None:
    """An empty string is none."""
    assert looks_like_output(b'{"choices":[{"delta":{"content":"H')
    assert looks_like_output(b'{"data":[{"embedding":[0.1,')
    assert not looks_like_output(b'{"choices":[{"delta":{"role":"assistant","content":""')
