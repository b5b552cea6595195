"""A document is read whole, or member by member when it is large or broke off, at any split."""

import json
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.openrouter.json_body import JsonScanner
from gateway.openrouter.usage import Usage
from tests.gateway.openrouter.scans import CHAT, COSTS, HALF_A_DOLLAR, facts, pieces, read_json

_USAGES = st.fixed_dictionaries(
    {}, optional={"cost": st.sampled_from([0, 0.5, 1.4e-7, None, "1"]), "prompt_tokens": st.integers(0, 9)}
)
_MEMBERS: dict[str, st.SearchStrategy[object]] = {
    "id": st.sampled_from(["gen-1", "not an id", 1]),
    "type": st.sampled_from(["message", "error", "response.failed", None]),
    "error": st.sampled_from([None, {"code": 402, "message": "Insufficient credits"}]),
    "response": st.fixed_dictionaries({"id": st.just("gen-2"), "usage": _USAGES}),
    "choices": st.sampled_from([[], [{"message": {"content": ',"usage":{"cost":7}}'}}], [{"usage": {"cost": 7}}]]),
    "usage": _USAGES | st.none(),
}


def test_a_leading_id_of_a_json_body_is_known_at_once() -> None:
    """Keep-alive blanks in front do not hide it, nor a split inside it."""
    scanner = JsonScanner(CHAT)
    for chunk in (b"\n         \n", b"\n  ", b'\n{"id": "gen-17', b'8","object":'):
        scanner.feed(chunk)
    assert scanner.generation_id == "gen-178"


def test_a_nested_id_is_not_taken_for_the_generations() -> None:
    """Tool calls and output items have ids of their own."""
    assert (
        read_json(b'{"choices":[{"message":{"tool_calls":[{"id":"call_1"}]}}],"id":"gen-2"}').generation_id == "gen-2"
    )


@settings(max_examples=100, deadline=None)
@given(cuts=st.lists(st.integers(min_value=0), max_size=8))
def test_splits_never_change_what_a_json_body_says(cuts: list[int]) -> None:
    """A body with keep-alive blanks is read alike for any split into pieces."""
    body = b'\n         \n{"id":"gen-1","choices":[{"error":{"code":502}}],"usage":{"prompt_tokens":3,"cost":0.5}}'
    assert facts(read_json(*pieces(body, cuts))) == facts(read_json(body))


@settings(max_examples=300, deadline=None)
@given(
    document=st.fixed_dictionaries({}, optional=_MEMBERS),
    order=st.randoms(use_true_random=False),
    separators=st.sampled_from([(",", ":"), (", ", ": ")]),
    cut=st.integers(min_value=0),
)
def test_a_complete_body_says_the_same_as_its_pieces(
    document: dict[str, object], order: Random, separators: tuple[str, str], cut: int
) -> None:
    """Of a body that is known to be complete the end may be enough, wherever a usage stands."""
    members = list(document.items())
    order.shuffle(members)
    body = json.dumps(dict(members), separators=separators).encode() + b"\n"
    known = cut % len(body)
    scanner = JsonScanner(CHAT)
    scanner.feed(body[:known])
    scanner.finish(body[known:])
    assert facts(scanner) == facts(read_json(body))


def test_a_cost_at_the_end_counts_though_the_text_is_no_json() -> None:
    """A body that is complete, and ends with a usage that states the cost, may have an invalid byte before it."""
    scanner = JsonScanner(CHAT)
    scanner.finish(b'{"id":"gen-1","choices":[{"message":{"content":"a"b"}}],' + COSTS[1:])
    assert (scanner.usage, scanner.generation_id) == (HALF_A_DOLLAR, "gen-1")


def test_usage_and_id_behind_megabytes_of_vectors_are_found() -> None:
    """Embeddings put both last; they are read without parsing the vectors."""
    vectors = json.dumps([[0.123456789] * 512] * 60).encode()
    tail = b',"usage":{"prompt_tokens":7,"total_tokens":7,"cost":1.4e-7},"provider":"OpenAI","id":"gen-emb-1"}'
    scanner = read_json(b'{"object":"list","data":' + vectors + tail)
    assert (scanner.usage, scanner.generation_id, scanner.done) == (
        Usage(140, 7, None, is_byok=False),
        "gen-emb-1",
        True,
    )


def test_of_a_large_body_only_the_ends_are_kept() -> None:
    """Thousands of embeddings in one answer: id and usage are found, and no more memory is taken."""
    scanner = JsonScanner(CHAT, whole_body_bytes=20_000)
    scanner.feed(b'{"object":"list","data":[')
    for _ in range(500):
        scanner.feed(b"0.1234567," * 10)
        assert len(scanner._body) <= 20_000
    scanner.feed(b'0],"usage":{"prompt_tokens":7,"cost":1.4e-7},"id":"gen-emb-1"}')
    scanner.finish()
    assert (scanner.usage, scanner.generation_id, scanner.done) == (
        Usage(140, 7, None, is_byok=False),
        "gen-emb-1",
        True,
    )


def test_usage_at_the_head_of_a_large_body_is_found_too() -> None:
    """The usage need not be the last member."""
    scanner = JsonScanner(CHAT, whole_body_bytes=20_000)
    for chunk in (b'{"id":"gen-1",' + COSTS[1:-1], b',"data":"', b"x" * 50_000, b'"}'):
        scanner.feed(chunk)
    scanner.finish()
    assert (scanner.usage is not None, scanner.generation_id) == (True, "gen-1")


def test_a_body_cut_short_has_no_usage() -> None:
    """Half a JSON body yields its id and nothing else."""
    scanner = read_json(b'{"id":"gen-1","usage":{"cost":0.5')
    assert (scanner.generation_id, scanner.usage, scanner.done) == ("gen-1", None, False)


def test_a_body_cut_short_says_what_came_of_it() -> None:
    """A usage that is whole counts, though the document is not; output in front of the cut is work."""
    stated = read_json(b'{"id":"gen-1","usage":{"prompt_tokens":3,"completion_tokens":4,"cost":0.5},"choices":[{"mess')
    assert (stated.usage, stated.done, stated.has_work) == (Usage(500_000_000, 3, 4, is_byok=False), False, False)
    assert read_json(b'{"id":"gen-1","choices":[{"message":{"content":"Hel').has_work
    assert not read_json(b'{"id":"gen-1","choices":[{"message":{"role":"assistant","content":"').has_work


def test_a_usage_within_a_string_or_an_example_is_none() -> None:
    """Only its place in the document counts, in small and large documents."""
    bait = json.dumps(
        {"example": {"usage": {"cost": 7}}, "text": '"usage":{"cost":7}', "list": [{"usage": {"cost": 7}}]}
    )
    for filler in (b"", b"y" * 600_000):
        body = b'{"tools":%b,%b,"more":%b,"filler":"%b"}' % (bait.encode(), COSTS[1:-1], bait.encode(), filler)
        assert read_json(body).usage == HALF_A_DOLLAR
        assert read_json(*(body[at : at + 70_000] for at in range(0, len(body), 70_000))).usage == HALF_A_DOLLAR


def test_the_end_of_a_document_is_known_before_the_body_ends() -> None:
    """Braces in strings and within are not its last one."""
    scanner = JsonScanner(CHAT)
    seen = []
    for piece in (b'{"a":{"b":"}"}', b',"c":"}', b'"}', b"\n"):
        scanner.feed(piece)
        seen.append(scanner.done)
    assert seen == [False, False, True, True]
