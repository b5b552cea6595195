"""The dialect table: each row is applied column by column, and the documentation has the same table."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path as File

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.metered.meter import Meter, Reconcile, Settle, Void
from gateway.openrouter.dialects import EACH, WIRE, Dialect, Path, StreamError, Wire, carries_work, found
from gateway.openrouter.usage import ERROR_MARK, FAILURE_MARK, find_errors, find_id, find_usage

COLUMNS = [column.name for column in fields(Wire)]
ROWS = pytest.mark.parametrize("dialect", list(Dialect), ids=lambda dialect: dialect.value)
# What may stand empty in a row, and why: no output, no start, no end but [DONE].
MAY_BE_EMPTY = {
    (Dialect.EMBEDDINGS, "ceilings"),
    *(
        (dialect, column)
        for dialect in (Dialect.CHAT, Dialect.COMPLETIONS, Dialect.EMBEDDINGS)
        for column in ("starts", "ends")
    ),
}
# https://docs.anthropic.com/en/api/errors
ANTHROPIC_TYPES = {
    401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 500: "api_error", 502: "api_error", 503: "overloaded_error",
    504: "timeout_error", 529: "overloaded_error",
}  # fmt: skip
PAGE = File(__file__).parents[3] / "docs" / "wire.md"


def at(path: Path, value: object) -> dict[str, object]:
    """An object that holds `value` at the end of `path`."""
    for name in reversed(path):
        value = [value] if name == EACH else {name: value}
    assert isinstance(value, dict)
    return value


def event(document: Mapping[str, object]) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def read(dialect: Dialect, *pieces: bytes, ends: bool = True) -> Meter:
    meter = Meter(WIRE[dialect])
    meter.sent()
    meter.opened(200)
    for piece in pieces:
        meter.body(piece)
    (meter.ended if ends else meter.cut)()
    return meter


@ROWS
@pytest.mark.parametrize("column", COLUMNS)
def test_no_cell_is_empty(dialect: Dialect, column: str) -> None:
    """A new row or column is filled for every dialect, or named here with its reason."""
    cell = getattr(WIRE[dialect], column)
    assert bool(cell) != ((dialect, column) in MAY_BE_EMPTY)


@ROWS
def test_an_id_is_found_where_it_stands(dialect: Dialect) -> None:
    """In a stream and in a document, at each place of the row."""
    for path in WIRE[dialect].ids:
        document = at(path, "gen-1")
        assert find_id(document) == "gen-1"
        assert read(dialect, event(document)).generation_id == "gen-1"
        assert read(dialect, json.dumps(document).encode()).generation_id == "gen-1"


@ROWS
def test_a_failure_is_marked(dialect: Dialect) -> None:
    """Where none of the marks stands there is no error, which spares a search for one."""
    for kind in WIRE[dialect].failures:
        assert any(mark in json.dumps({"type": kind}).encode() for mark in (ERROR_MARK, FAILURE_MARK))


@ROWS
def test_a_usage_is_found_where_it_stands(dialect: Dialect) -> None:
    """The usage is found at the row's place, and its cost is owed."""
    for path in WIRE[dialect].usages:
        document = at(path, {"input_tokens": 3, "output_tokens": 4, "cost": 0.25})
        assert find_usage(document) is not None
        for body in (event(document), json.dumps(document).encode()):
            owed = read(dialect, body).outcome()
            assert isinstance(owed, Settle)
            assert owed.cost_nano == 250_000_000


@ROWS
def test_work_is_what_the_row_says(dialect: Dialect) -> None:
    """Output at any of the row's places may be owed; empty places are not."""
    wire = WIRE[dialect]
    for path in wire.work_paths:
        for full, empty in (
            ("said", ""),
            ([0.5], []),
            ({"text": "said"}, {"type": "text", "id": "x", "index": 0, "text": ""}),
        ):
            assert carries_work(wire, at(path, full))
            assert not carries_work(wire, at(path, empty))
            assert isinstance(read(dialect, event(at(path, full))).outcome(), Reconcile)
            assert isinstance(read(dialect, json.dumps(at(path, full)).encode()).outcome(), Reconcile)
            assert read(dialect, event(at(path, empty))).outcome() == Void("failed")


@ROWS
def test_a_cost_in_a_start_is_not_the_last_word(dialect: Dialect) -> None:
    """What breaks off after it is estimated at no less than its work."""
    for kind in WIRE[dialect].starts:
        start = {"type": kind, "message": {"id": "gen-1", "usage": {"cost": 0}}, "response": {"usage": {"cost": 0}}}
        owed = read(dialect, event(start), ends=False).outcome()
        assert isinstance(owed, Reconcile)
        assert owed.is_outdone


@ROWS
def test_an_end_is_told_by_its_type(dialect: Dialect) -> None:
    """The row's events and [DONE] end an answer; text that speaks of them does not."""
    for kind in WIRE[dialect].ends:
        assert read(dialect, event({"type": kind}), ends=False).is_done
        assert read(dialect, b"event: " + kind.encode() + b"\n" + event({"type": kind}), ends=False).is_done
        assert not read(dialect, event({"type": "other", "delta": {"text": kind}, "kind": kind}), ends=False).is_done
    assert read(dialect, b"data: [DONE]\n\n", ends=False).is_done


@ROWS
def test_a_ping_is_no_payload(dialect: Dialect) -> None:
    """It keeps alive and nothing else."""
    for kind in WIRE[dialect].pings:
        meter = read(dialect, event({"type": kind}))
        assert (meter.payload, meter.events) == (0, 0)


@ROWS
def test_an_error_is_found_in_each_shape(dialect: Dialect) -> None:
    """Nested, a bare string, and as a whole by its type; none of them is work."""
    for path in _error_paths(WIRE[dialect]):
        for error in ({"code": 429, "message": "slow down"}, "slow down"):
            assert [each.message for each in find_errors(at(path, error))] == ["slow down"]
            assert read(dialect, event(at(path, error)), ends=False).outcome() == Void("failed")
            assert read(dialect, json.dumps(at(path, error)).encode()).outcome() == Void("failed")
    for kind in WIRE[dialect].failures:
        flat: dict[str, object] = {
            "type": kind,
            "code": "rate_limit_exceeded",
            "message": "slow down",
            "param": None,
            "sequence_number": 2,
        }
        assert [each.message for each in find_errors(flat)] == ["slow down"]
        assert read(dialect, event(flat), ends=False).outcome() == Void("failed")


@ROWS
def test_a_refused_key_is_noticed_in_each_shape(dialect: Dialect) -> None:
    """By each of the row's names, as code and as type, and by status."""
    wire = WIRE[dialect]
    for name in (*wire.funding, 402, 401, "402"):
        for path in _error_paths(wire):
            assert read(dialect, event(at(path, {"code": name, "message": "x"}))).funding_refused
        assert read(dialect, event({"type": "error", "code": name, "message": "x"})).funding_refused
    for name in wire.funding:
        assert read(dialect, event({"type": "error", "error": {"type": name, "message": "x"}})).funding_refused
    assert not read(dialect, event({"type": "error", "error": {"type": "rate_limit_error"}})).funding_refused


@ROWS
def test_what_we_say_is_an_error_to_our_own_reading(dialect: Dialect) -> None:
    """One complete event, with code, type and message."""
    said = WIRE[dialect].error_event(StreamError("not_connected", "billing_error", "It has ended.", sequence=7))
    assert said.endswith(b"\n\n")
    document = json.loads(said.partition(b"data: ")[2])
    [error] = find_errors(document)
    assert (error.code, error.message) == ("not_connected", "It has ended.")
    if dialect is Dialect.RESPONSES:
        assert (document["type"], document["code"], document["param"]) == ("error", "not_connected", None)
        assert document["sequence_number"] == 7
    if dialect is Dialect.MESSAGES:
        assert said.startswith(b"event: error\ndata: ")
        assert document["type"] == "error"


@ROWS
def test_a_refusal_of_ours_has_the_dialects_own_shape(dialect: Dialect) -> None:
    """Every member is kept; Anthropic's libraries find `type` at the top and within `error`."""
    error: dict[str, object] = {"code": "unavailable", "message": "x", "type": "api_error", "requestId": "r", "more": 1}
    for status in (400, 401, 402, 403, 404, 405, 408, 413, 415, 422, 429, 500, 502, 503, 504, 529):
        document = WIRE[dialect].enclose(status, error)
        inner = document["error"]
        assert isinstance(inner, dict)
        assert {**inner, "type": "api_error"} == error
        if dialect is Dialect.MESSAGES:
            assert (document["type"], inner["type"]) == ("error", ANTHROPIC_TYPES.get(status, "invalid_request_error"))
        else:
            assert document == {"error": error}


def test_a_path_leads_nowhere_through_foreign_shapes() -> None:
    """A list in place of an object, or the reverse, yields nothing."""
    assert list(found([{"id": 1}], ("id",))) == []
    assert list(found({"choices": {"delta": 1}}, ("choices", EACH))) == []
    assert list(found({"a": [1, 2]}, ("a", EACH))) == [1, 2]


@ROWS
def test_the_documentation_says_the_same(dialect: Dialect) -> None:
    """docs/wire.md has a row for each dialect, made of the table's cells."""
    assert row_of(dialect) in PAGE.read_text().splitlines()


def row_of(dialect: Dialect) -> str:
    """The row that docs/wire.md must hold."""
    wire = WIRE[dialect]
    shown = {
        "prompt": ", ".join(f"`{each}`" for each in wire.prompts),
        "ceiling": ", ".join(f"`{each}`" for each in wire.ceilings) or "none",
        "id": _paths(wire.ids),
        "usage": _paths(wire.usages),
        "work": _paths(wire.work_paths),
        "end": ", ".join(f"`{each}`" for each in ("[DONE]", *sorted(wire.ends))),
        "errors": _paths(_error_paths(wire)),
        "failures": ", ".join(f"`{each}`" for each in sorted(wire.failures)),
        "funding": ", ".join(f"`{each}`" for each in sorted(wire.funding)),
    }
    return f"| `/{dialect.value}` | {' | '.join(shown.values())} |"


def _error_paths(wire: Wire) -> tuple[Path, ...]:
    return tuple((*place, "error") for place in wire.errors)


def _paths(paths: tuple[Path, ...]) -> str:
    return ", ".join("`" + ".".join(path).replace(f".{EACH}", EACH) + "`" for path in paths)


def walked(document: object, path: Path) -> Iterator[object]:
    """Return the values at a path, step by step."""
    if not path:
        yield document
    elif path[0] == EACH:
        for each in document if isinstance(document, list) else []:
            yield from walked(each, path[1:])
    elif isinstance(document, dict) and path[0] in document:
        yield from walked(document[path[0]], path[1:])


NAMES = st.sampled_from(["choices", "delta", "message", "text"])
DOCUMENTS = st.recursive(
    st.sampled_from(["", "x", 1, None]), lambda each: st.lists(each) | st.dictionaries(NAMES, each)
)


@given(document=DOCUMENTS, names=st.lists(NAMES, max_size=2), end=st.sampled_from([(), (EACH,)]))
def test_a_path_leads_to_each_value_at_its_end(document: object, names: list[str], end: Path) -> None:
    """In their order, and to none where a step is missing."""
    path = (*names, *end)
    assert found(document, path) == list(walked(document, path))
