"""The bytes of the stand-in have the forms that were recorded from OpenRouter."""

import json
from decimal import Decimal
from typing import Any

import pytest

from gateway.money import nano_from_usd
from gateway.openrouter.dialects import WIRE, Dialect
from gateway.openrouter.reading import Reading
from simulator.variants import listed_variants
from simulator.wire import BLANKS, COMMENT, DONE, usd_literal
from tests.gateway.recordings import recording
from tests.simulator.asking import GENERATION_ID, ask, ask_in, document, events, raw, said, usages

# Key order of a chunk and of usage in the recording of 8 June 2026 (streamed, claude-haiku-4.5).
_RECORDED_CHUNK = ["id", "object", "created", "model", "provider", "choices"]
_RECORDED_USAGE = [
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cost",
    "is_byok",
    "prompt_tokens_details",
    "cost_details",
    "completion_tokens_details",
]


def test_a_stream_has_the_recorded_form() -> None:
    """Comments, chunks with one id, a finish chunk, usage beside one choice, [DONE]; LF only."""
    answer = ask("sandbox/echo")
    sent = raw(answer)
    assert sent.startswith(COMMENT)
    assert sent.endswith(b"}}}\n\n" + DONE)
    assert b"\r" not in sent
    found = events(answer)
    assert [list(event) for event in found[:-1]] == [_RECORDED_CHUNK] * (len(found) - 1)
    assert list(found[-1]) == [*_RECORDED_CHUNK[:5], "service_tier", "choices", "usage"]
    assert {event["id"] for event in found} == {GENERATION_ID}
    assert dict(answer.headers)["X-Generation-Id"] == GENERATION_ID
    assert len(found[-1]["choices"]) == 1
    assert list(usages(answer)[0]) == _RECORDED_USAGE
    assert said(answer) == "Say this back."


def test_json_comes_after_blanks() -> None:
    """Non-streamed answers begin with LF, nine spaces, LF, repeated, and have the same usage."""
    answer = ask("sandbox/echo", stream=False)
    assert raw(answer).startswith(b"\n         \n\n         \n{")
    body = document(answer)
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"]["content"] == "Say this back."
    assert body["usage"] == usages(ask("sandbox/echo"))[0]


@pytest.mark.parametrize(("name", "code"), [("sandbox/stream-error", 502), ("sandbox/stream-error-402", 402)])
def test_shape_a_is_a_bare_error_in_a_200(name: str, code: int) -> None:
    """One event of error and user_id: no id, no choices, no usage, no [DONE]; in JSON the same object."""
    answer = ask(name)
    [event] = events(answer)
    assert (answer.status, list(event)) == (200, ["error", "user_id"])
    assert event["error"]["code"] == code
    assert DONE not in raw(answer)
    assert document(ask(name, stream=False)) == event


def test_shape_b_bills_after_its_error() -> None:
    """The error chunk finishes, a billed usage chunk follows, then the end without [DONE]."""
    answer = ask("sandbox/stream-error-billed")
    *_, failed, billed = events(answer)
    assert failed["error"]["code"] == 502
    assert failed["choices"][0]["finish_reason"] == "stop"
    assert nano_from_usd(billed["usage"]["cost"]) == answer.cost_nano > 0
    assert DONE not in raw(answer)
    choice = document(ask("sandbox/stream-error-billed", stream=False))["choices"][0]
    assert choice["error"]["code"] == 502


def test_shape_c_has_error_and_usage_in_one_chunk() -> None:
    """As recorded: finish_reason null, cost 0, [DONE] after it."""
    answer = ask("sandbox/stream-error-usage")
    last = events(answer)[-1]
    assert last["error"] == {"message": "Token limit reached", "code": 400}
    assert last["usage"]["cost"] == 0
    assert last["choices"][0]["finish_reason"] is None
    assert raw(answer).endswith(DONE)


def test_the_documented_error_ends_the_stream() -> None:
    """Half an answer, then a chunk with finish_reason error, no usage, no [DONE], no charge."""
    answer = ask("sandbox/stream-error-last")
    last = events(answer)[-1]
    assert last["error"]["metadata"] == {"error_type": "rate_limit_exceeded"}
    assert last["choices"][0]["finish_reason"] == "error"
    assert usages(answer) == []
    assert answer.cost_nano == 0


def test_cost_can_be_missing_in_three_ways() -> None:
    """No usage, usage without cost, cost null: each is billed all the same."""
    assert usages(ask("sandbox/usage-missing")) == []
    [without] = usages(ask("sandbox/cost-missing"))
    assert "cost" not in without
    [null] = usages(ask("sandbox/cost-null"))
    assert null["cost"] is None
    assert all(ask(f"sandbox/{name}").cost_nano > 0 for name in ("usage-missing", "cost-missing", "cost-null"))


def test_the_last_of_two_usages_is_billed() -> None:
    """The first chunk states half of what the second one does."""
    answer = ask("sandbox/usage-doubled")
    first, last = [nano_from_usd(usage["cost"]) for usage in usages(answer)]
    assert first * 2 == last == answer.cost_nano


@pytest.mark.parametrize("stream", [True, False])
def test_a_cut_ends_inside_a_chunk(stream: bool) -> None:
    """The last chunk cannot be parsed, and the delivered part is billed."""
    answer = ask("sandbox/cut", stream=stream)
    assert answer.cut
    assert answer.completion_tokens == 2
    assert not raw(answer).endswith((b"\n\n", b"}"))


@pytest.mark.parametrize(
    ("name", "literal"), [("sandbox/exponent", "9e-7"), ("sandbox/float-noise", "0.0076509169000000005")]
)
def test_odd_literals_are_written_as_recorded(name: str, literal: str) -> None:
    """The digits on the wire are the recorded ones, not a float's."""
    assert f'"cost":{literal},'.encode() in raw(ask(name))


def test_a_long_pause_is_kept_alive() -> None:
    """A comment for each full second of a pause, blanks before JSON, and the same time in all."""
    answer = ask("sandbox/slow-2500", text="x")
    assert [(chunk.data == COMMENT, chunk.pause_ms) for chunk in list(answer.chunks)[2:5]] == [
        (True, 1000),
        (True, 1000),
        (False, 500),
    ]
    whole = list(ask("sandbox/slow-2500", text="x", stream=False).chunks)
    assert [chunk.data for chunk in whole[:3]] == [BLANKS] * 3
    assert sum(chunk.pause_ms for chunk in whole) == 2500


def test_split_pieces_make_the_same_bytes() -> None:
    """However small the pieces, the stream is that of echo but for the name."""
    pieces = ask("sandbox/split")
    assert max(len(chunk.data) for chunk in pieces.chunks) == 7
    assert raw(pieces).replace(b"sandbox/split", b"sandbox/echo") == raw(ask("sandbox/echo"))
    assert sum(chunk.tokens for chunk in pieces.chunks) == pieces.completion_tokens


@pytest.mark.parametrize(
    ("usd", "literal"),
    [
        ("0.00006", "0.00006"),
        ("9E-7", "9e-7"),
        ("1.4e-7", "1.4e-7"),
        ("0.000001", "0.000001"),
        ("10", "10"),
        ("0", "0"),
    ],
)
def test_numbers_look_like_javascript(usd: str, literal: str) -> None:
    """An exponent only below a millionth, no trailing zeros."""
    assert usd_literal(Decimal(usd)) == literal


def test_byok_states_no_cost_but_an_upstream_one() -> None:
    """Cost 0, is_byok true, and what the provider bills beside it."""
    answer = ask("sandbox/byok")
    [usage] = usages(answer)
    assert (usage["cost"], usage["is_byok"]) == (0, True)
    assert nano_from_usd(usage["cost_details"]["upstream_inference_cost"]) == answer.cost_nano > 0


def _recorded_events(name: str) -> list[dict[str, Any]]:
    lines = recording(name).body.decode().split("\n\n")
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


def _shape(value: object) -> object:
    """Names at every depth, in their order, without the values."""
    if isinstance(value, dict):
        return [(name, _shape(inner)) for name, inner in value.items()]
    return [_shape(inner) for inner in value] if isinstance(value, list) else None


def test_a_plain_stream_has_the_shape_of_its_recording() -> None:
    """First, finishing and usage chunk carry the recorded names, all but the provider's price details."""
    recorded, simulated = _recorded_events("haiku-bedrock-plain"), events(ask("sandbox/echo"))
    del recorded[-1]["usage"]["cost_details"]["upstream_inference_prompt_cost"]
    del recorded[-1]["usage"]["cost_details"]["upstream_inference_completions_cost"]
    assert [_shape(simulated[index]) for index in (0, -2, -1)] == [_shape(recorded[index]) for index in (0, -2, -1)]


def test_a_bare_error_has_the_shape_of_its_recording() -> None:
    """The Venice 502: comments, one event, nothing more."""
    assert _shape(events(ask("sandbox/stream-error"))) == _shape(_recorded_events("venice-502-in-200-no-id-no-usage"))


def test_an_error_with_usage_says_what_its_recording_says() -> None:
    """The Minimax 400: the same error, finish_reason and cost, whatever the order of the names."""
    simulated = events(ask("sandbox/stream-error-usage"))[-1]
    recorded = _recorded_events("minimax-error-chunk-carries-usage")[-1]
    assert (simulated["error"].keys(), simulated["error"]["code"]) == (
        recorded["error"].keys(),
        recorded["error"]["code"],
    )
    assert simulated["usage"].keys() >= recorded["usage"].keys()
    assert simulated["usage"]["cost"] == recorded["usage"]["cost"]
    assert simulated["choices"][0]["finish_reason"] is recorded["choices"][0]["finish_reason"] is None


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("dialect", Dialect)
def test_the_meter_reads_what_is_billed(dialect: Dialect, stream: bool) -> None:
    """In each dialect and under each fault the gateway's own reading finds id, work, end and the billed cost."""
    for name in [variant.name for variant in listed_variants()]:
        answer = ask_in(dialect.value, name, stream=stream)
        reading = Reading(WIRE[dialect])
        for chunk in answer.chunks:
            reading.feed(chunk.data)
        reading.finish()
        scanner = reading.scanner
        if answer.status == 200 and name not in _SILENT_ABOUT_COST:
            assert scanner.usage is not None, name
            assert scanner.usage.cost_nano == answer.cost_nano, name
            assert scanner.generation_id == answer.generation_id, name
        elif scanner.usage is not None:
            assert scanner.usage.cost_nano in {None, 0, answer.cost_nano}, name
        assert bool(scanner.errors) == (answer.status != 200 or "stream-error" in name), name
        if answer.status == 200 and "error" not in name and not answer.cut and name != "sandbox/silent":
            assert (scanner.has_work, scanner.done) == (True, True), name


_SILENT_ABOUT_COST = {
    *("sandbox/usage-missing", "sandbox/cost-missing", "sandbox/cost-null", "sandbox/cut", "sandbox/silent"),
    *("sandbox/stream-error", "sandbox/stream-error-402", "sandbox/stream-error-403-key", "sandbox/stream-error-last"),
}
