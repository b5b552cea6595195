"""The stand-in's answers have the forms that were recorded from OpenRouter, and bill what they say."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from gateway.money import nano_from_usd
from gateway.simulator import Performance, generation_body, perform
from gateway.simulator_models import MODELS, Abort, Play, find_role, listed_roles, model_entry
from gateway.simulator_wire import BLANKS, COMMENT, DONE, FOREVER_MS, usd_literal

_ID = "gen-1780944361-X5HAtL0Z2NQp8nHAiT6F"

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


def _ask(
    model: str, *, stream: bool = True, free: bool = False, text: str = "Say this back.", **more: object
) -> Performance:
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": text}], **more}
    return perform(body, generation_id=_ID, created_seconds=1_780_944_361, free=free)


def _bytes(performance: Performance) -> bytes:
    return b"".join(chunk.data for chunk in performance.chunks)


def _events(performance: Performance) -> list[dict[str, Any]]:
    lines = _bytes(performance).split(b"\n\n")
    return [
        json.loads(line[6:], parse_float=Decimal)
        for line in lines
        if line.startswith(b"data: {") and line.endswith(b"}")
    ]


def _json(performance: Performance) -> dict[str, Any]:
    body = json.loads(_bytes(performance), parse_float=Decimal)
    assert isinstance(body, dict)
    return body


def _usages(performance: Performance) -> list[dict[str, Any]]:
    found = [event["usage"] for event in _events(performance) if event.get("usage") is not None]
    return [usage for usage in found if isinstance(usage, dict)]


def _text(performance: Performance) -> str:
    return "".join(choice["delta"]["content"] for event in _events(performance) for choice in event["choices"])


def _names(*plays: Play) -> Iterator[str]:
    for model in MODELS:
        if model.play in plays:
            yield from model.examples or (model.name,)


def test_a_stream_has_the_recorded_form() -> None:
    """Comments, chunks with one id, a finish chunk, usage beside one choice, [DONE]; LF only."""
    answer = _ask("sandbox/echo")
    raw = _bytes(answer)
    assert raw.startswith(COMMENT)
    assert raw.endswith(b"}}}\n\n" + DONE)
    assert b"\r" not in raw
    events = _events(answer)
    assert [list(event) for event in events[:-1]] == [_RECORDED_CHUNK] * (len(events) - 1)
    assert list(events[-1]) == [*_RECORDED_CHUNK[:5], "service_tier", "choices", "usage"]
    assert {event["id"] for event in events} == {_ID}
    assert dict(answer.headers)["X-Generation-Id"] == _ID
    assert len(events[-1]["choices"]) == 1
    assert list(_usages(answer)[0]) == _RECORDED_USAGE
    assert _text(answer) == "Say this back."


def test_json_comes_after_blanks() -> None:
    """What is not streamed begins with LF, nine spaces, LF, repeated, and carries the same usage."""
    answer = _ask("sandbox/echo", stream=False)
    assert _bytes(answer).startswith(b"\n         \n\n         \n{")
    body = _json(answer)
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"]["content"] == "Say this back."
    assert body["usage"] == _usages(_ask("sandbox/echo"))[0]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", [role.name for role in listed_roles()])
def test_every_listed_model_answers(name: str, stream: bool) -> None:  # noqa: FBT001
    """Each row plays in both forms, twice the same, and a stated cost is the billed one."""
    answer = _ask(name, stream=stream)
    chunks = list(answer.chunks)
    assert chunks == list(answer.chunks)
    if answer.status != 200 or answer.cut or chunks[-1].pause_ms == FOREVER_MS:
        return
    usage = _usages(answer)[-1:] if stream else [_json(answer).get("usage")]
    for stated in usage:
        if isinstance(stated, dict) and stated.get("cost") is not None and not answer.is_byok:
            assert nano_from_usd(stated["cost"]) == answer.cost_nano
            assert stated["completion_tokens"] == answer.completion_tokens == sum(chunk.tokens for chunk in chunks)


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_output_never_exceeds_its_limit(field: str) -> None:
    """Both names of the limit cut the answer there, with finish_reason length."""
    limit: dict[str, Any] = {field: 7}
    answer = _ask("sandbox/long-100", **limit)
    assert sum(chunk.tokens for chunk in answer.chunks) == answer.completion_tokens == 7
    assert _events(answer)[-1]["choices"][0]["finish_reason"] == "length"
    assert _json(_ask("sandbox/long-100", stream=False, **limit))["usage"]["completion_tokens"] == 7


@pytest.mark.parametrize("limit", [0, -1, "5", 1.5, True])
def test_an_impossible_limit_is_a_400(limit: object) -> None:
    """A limit that is no positive whole number is refused before any output."""
    assert _ask("sandbox/echo", max_tokens=limit).status == 400


def test_a_token_is_four_characters() -> None:
    """Prompt and completion are counted by the same simple rule, whatever the script."""
    answer = _ask("sandbox/echo", text="žluťoučký")
    assert (answer.prompt_tokens, answer.completion_tokens) == (3, 3)
    assert _text(answer) == "žluťoučký"


def test_a_long_answer_is_made_while_it_is_read() -> None:
    """A million tokens cost nothing until they are asked for."""
    first = next(iter(_ask("sandbox/long-1000000", text="x").chunks))
    assert first.data == COMMENT


@pytest.mark.parametrize("name", list(_names(Play.REFUSED)))
def test_an_error_before_output_carries_its_own_status(name: str) -> None:
    """The status is the one in the name; there is no generation and no charge."""
    answer = _ask(name)
    assert str(answer.status) == name.removeprefix("sandbox/error-").split("-")[0]
    assert (answer.generation_id, answer.cost_nano) == (None, 0)
    error = _json(answer)["error"]
    assert isinstance(error, dict)
    assert error.get("code", error.get("http_status")) == answer.status
    assert "X-Generation-Id" not in dict(answer.headers)


@pytest.mark.parametrize(("name", "seconds"), [("sandbox/error-429", "7"), ("sandbox/error-503", "3")])
def test_some_errors_say_when_to_come_back(name: str, seconds: str) -> None:
    """Retry-After stands on the 429 and the 503."""
    assert dict(_ask(name).headers)["Retry-After"] == seconds


@pytest.mark.parametrize(("name", "code"), [("sandbox/stream-error", 502), ("sandbox/stream-error-402", 402)])
def test_shape_a_is_a_bare_error_in_a_200(name: str, code: int) -> None:
    """One event of error and user_id: no id, no choices, no usage, no [DONE]; in JSON the same object."""
    answer = _ask(name)
    [event] = _events(answer)
    assert (answer.status, list(event)) == (200, ["error", "user_id"])
    assert event["error"]["code"] == code
    assert DONE not in _bytes(answer)
    assert _json(_ask(name, stream=False)) == event


def test_shape_b_bills_after_its_error() -> None:
    """The error chunk finishes, a billed usage chunk follows, then the end without [DONE]."""
    answer = _ask("sandbox/stream-error-billed")
    *_, failed, billed = _events(answer)
    assert failed["error"]["code"] == 502
    assert failed["choices"][0]["finish_reason"] == "stop"
    assert nano_from_usd(billed["usage"]["cost"]) == answer.cost_nano > 0
    assert DONE not in _bytes(answer)
    choice = _json(_ask("sandbox/stream-error-billed", stream=False))["choices"][0]
    assert choice["error"]["code"] == 502


def test_shape_c_has_error_and_usage_in_one_chunk() -> None:
    """As recorded: finish_reason null, cost 0, [DONE] after it."""
    answer = _ask("sandbox/stream-error-usage")
    last = _events(answer)[-1]
    assert last["error"] == {"message": "Token limit reached", "code": 400}
    assert last["usage"]["cost"] == 0
    assert last["choices"][0]["finish_reason"] is None
    assert _bytes(answer).endswith(DONE)


def test_the_documented_error_ends_the_stream() -> None:
    """Half an answer, then a chunk with finish_reason error, no usage, no [DONE], no charge."""
    answer = _ask("sandbox/stream-error-last")
    last = _events(answer)[-1]
    assert last["error"]["metadata"] == {"error_type": "rate_limit_exceeded"}
    assert last["choices"][0]["finish_reason"] == "error"
    assert _usages(answer) == []
    assert answer.cost_nano == 0


def test_cost_can_be_missing_in_three_ways() -> None:
    """No usage, usage without cost, cost null: each is billed all the same."""
    assert _usages(_ask("sandbox/usage-missing")) == []
    [without] = _usages(_ask("sandbox/cost-missing"))
    assert "cost" not in without
    [null] = _usages(_ask("sandbox/cost-null"))
    assert null["cost"] is None
    assert all(_ask(f"sandbox/{name}").cost_nano > 0 for name in ("usage-missing", "cost-missing", "cost-null"))


def test_the_last_of_two_usages_is_billed() -> None:
    """The first chunk states half of what the second one does."""
    answer = _ask("sandbox/usage-doubled")
    first, last = [nano_from_usd(usage["cost"]) for usage in _usages(answer)]
    assert first * 2 == last == answer.cost_nano


@pytest.mark.parametrize("stream", [True, False])
def test_a_cut_ends_inside_a_chunk(stream: bool) -> None:  # noqa: FBT001
    """What came last cannot be parsed, and the half that came is billed."""
    answer = _ask("sandbox/cut", stream=stream)
    assert answer.cut
    assert answer.completion_tokens == 2
    assert not _bytes(answer).endswith((b"\n\n", b"}"))


@pytest.mark.parametrize("literal", ["0.0123", "0.0001", "0", "12.000000001"])
def test_a_given_price_is_stated_exactly_and_listed_no_lower(literal: str) -> None:
    """The cost literal is the one in the name, in test mode too, and no worst case lies under it."""
    answer = _ask(f"sandbox/price-{literal}")
    assert f'"cost":{literal},'.encode() in _bytes(answer)
    assert _bytes(_ask(f"sandbox/price-{literal}", free=True)) == _bytes(answer)
    assert answer.cost_nano == nano_from_usd(literal)
    role = find_role(f"sandbox/price-{literal}")
    assert role is not None
    assert nano_from_usd(role.listed.start_usd(1)) == answer.cost_nano


@pytest.mark.parametrize(
    ("name", "literal"), [("sandbox/exponent", "9e-7"), ("sandbox/float-noise", "0.0076509169000000005")]
)
def test_odd_literals_are_written_as_recorded(name: str, literal: str) -> None:
    """The digits on the wire are the recorded ones, not a float's."""
    assert f'"cost":{literal},'.encode() in _bytes(_ask(name))


def test_an_overrun_costs_more_than_its_list_price() -> None:
    """Whatever max_tokens says, the stated cost is above the worst case."""
    role = find_role("sandbox/overrun")
    assert role is not None
    worst = role.listed.start_usd(1000) + role.listed.output_usd(1000, role.max_completion_tokens)
    assert nano_from_usd(worst) < _ask("sandbox/overrun").cost_nano


def test_byok_states_no_cost_but_an_upstream_one() -> None:
    """Cost 0, is_byok true, and what the provider bills beside it."""
    answer = _ask("sandbox/byok")
    [usage] = _usages(answer)
    assert (usage["cost"], usage["is_byok"]) == (0, True)
    assert nano_from_usd(usage["cost_details"]["upstream_inference_cost"]) == answer.cost_nano > 0


def test_test_mode_costs_nothing() -> None:
    """Free: ordinary models and names nobody listed state 0; a misspelt sandbox name is still refused."""
    for name in ("sandbox/echo", "sandbox/byok", "openai/gpt-4o-mini", "somebody/something:free"):
        answer = _ask(name, free=True)
        assert (answer.status, answer.cost_nano, answer.model) == (200, 0, name)
        assert _usages(answer)[0]["cost"] == 0
    assert _ask("sandbox/ecko", free=True).status == 400


@pytest.mark.parametrize(
    "name", ["nobody/nothing", "sandbox/slow-", "sandbox/long-0", "sandbox/price-1e9", "sandbox/price-", "echo"]
)
def test_an_unknown_model_is_a_400(name: str) -> None:
    """In OpenRouter's words, with the account id that a proxy must not pass on."""
    body = _json(_ask(name))
    assert body["error"] == {"message": f"{name} is not a valid model ID", "code": 400}
    assert str(body["user_id"]).startswith("user_")


@pytest.mark.parametrize(
    "body", [{}, {"model": 5}, {"model": "sandbox/echo"}, {"model": "sandbox/echo", "messages": [1]}]
)
def test_a_body_without_a_question_is_a_400(body: dict[str, object]) -> None:
    """Neither a missing model nor missing messages raise."""
    assert perform(body, generation_id=_ID, created_seconds=1).status == 400


def test_the_dearer_price_of_long_prompts_is_billed() -> None:
    """Above 200,000 prompt tokens claude-sonnet-4 costs twice as much a prompt token."""
    answer = _ask("anthropic/claude-sonnet-4", text="x" * 800_004, max_tokens=10)
    assert answer.prompt_tokens == 200_001
    assert answer.cost_usd == usd_literal(200_001 * Decimal("0.000006") + 10 * Decimal("0.0000225"))
    assert answer.model == "anthropic/claude-4-sonnet-20250522"


def test_a_hung_up_stream_is_billed_for_what_was_produced() -> None:
    """Nothing before the first token, then prompt and tokens at their price, in full at the end."""
    answer = _ask("sandbox/long-20", text="four")
    assert [answer.billed_nano(tokens) for tokens in (0, 1, 10, 20)] == [0, 3_000, 21_000, 41_000]
    assert answer.billed_after(2) == 0
    assert answer.billed_after(5) == answer.billed_nano(3)
    assert answer.billed_after(10_000) == answer.cost_nano
    assert _ask("sandbox/price-1", text="x" * 40).billed_nano(3) == 300_000_000


def test_what_cannot_be_stopped_is_billed_in_full() -> None:
    """An answer that is not streamed, and a provider that does not cancel; another bills nothing."""
    assert _ask("sandbox/echo", stream=False).billed_nano(0) == _ask("sandbox/echo").cost_nano
    assert _ask("sandbox/abort-full").billed_nano(0) == _ask("sandbox/abort-full").cost_nano
    assert _ask("sandbox/abort-free").billed_nano(3) == 0
    assert _ask("sandbox/abort-free").abort is Abort.NOTHING


def test_a_long_pause_is_kept_alive() -> None:
    """A comment for each full second of a pause, blanks before JSON, and the same time in all."""
    answer = _ask("sandbox/slow-2500", text="x")
    assert [(chunk.data == COMMENT, chunk.pause_ms) for chunk in list(answer.chunks)[2:5]] == [
        (True, 1000),
        (True, 1000),
        (False, 500),
    ]
    whole = list(_ask("sandbox/slow-2500", text="x", stream=False).chunks)
    assert [chunk.data for chunk in whole[:3]] == [BLANKS] * 3
    assert sum(chunk.pause_ms for chunk in whole) == 2500


def test_split_pieces_make_the_same_bytes() -> None:
    """However small the pieces, the stream is that of echo but for the name."""
    pieces = _ask("sandbox/split")
    assert max(len(chunk.data) for chunk in pieces.chunks) == 7
    assert _bytes(pieces).replace(b"sandbox/split", b"sandbox/echo") == _bytes(_ask("sandbox/echo"))
    assert sum(chunk.tokens for chunk in pieces.chunks) == pieces.completion_tokens


def test_generation_states_the_true_cost() -> None:
    """The record's total_cost is the billed literal; after an abort it is what was billed, and cancelled."""
    answer = _ask("sandbox/float-noise")
    assert b'"total_cost":0.0076509169000000005,' in generation_body(answer)
    stopped = json.loads(generation_body(_ask("sandbox/long-20", text="four"), produced_tokens=10), parse_float=Decimal)
    assert stopped["data"]["total_cost"] == Decimal("0.000021")
    assert (stopped["data"]["cancelled"], stopped["data"]["native_tokens_completion"]) == (True, 10)
    byok = json.loads(generation_body(_ask("sandbox/byok")), parse_float=Decimal)["data"]
    assert (byok["total_cost"], byok["is_byok"]) == (0, True)
    assert byok["upstream_inference_cost"] > 0


def test_the_model_list_has_the_recorded_fields() -> None:
    """Prices are strings; -1, request prices and overrides stand where OpenRouter has them."""
    entries: dict[str, Any] = {role.name: model_entry(role) for role in listed_roles()}
    assert entries["openrouter/auto"]["pricing"] == {"prompt": "-1", "completion": "-1"}
    assert entries["openai/gpt-4o-search-preview"]["pricing"]["request"] == "0.035"
    overrides = entries["anthropic/claude-sonnet-4"]["pricing"]["overrides"]
    assert overrides == [{"min_prompt_tokens": 200_000, "prompt": "0.000006", "completion": "0.0000225"}]
    assert len(entries) == len(list(listed_roles()))


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
