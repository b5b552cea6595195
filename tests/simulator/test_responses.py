"""The events of /responses have the recorded form, numbered in order, with cost in the last response."""

import json
from typing import Any

import pytest

from tests.gateway.recordings import recording
from tests.simulator.asking import GENERATION_ID, ask_in, document, events, raw

_TOOL = {"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {"city": {}}}}
_CALL: dict[str, Any] = {"tools": [_TOOL], "tool_choice": "required"}


def test_a_stream_has_the_recorded_form() -> None:
    """The same events in the same order, each with the recorded members; `[DONE]` at the end."""
    lines = recording("responses-gpt4o").body.decode().split("\n\n")
    recorded = {
        event["type"]: event for line in lines if line.startswith("data: {") for event in [json.loads(line[6:])]
    }
    found = events(ask_in("responses"))
    assert list(dict.fromkeys(event["type"] for event in found)) == list(recorded)
    assert all(list(event) == list(recorded[event["type"]]) for event in found)
    assert found[-1]["response"].keys() <= recorded["response.completed"]["response"].keys()
    assert list(found[-1]["response"]["usage"]) == list(recorded["response.completed"]["response"]["usage"])
    assert raw(ask_in("responses")).endswith(b"data: [DONE]\n\n")
    assert {found[0]["response"]["id"], found[-1]["response"]["id"]} == {GENERATION_ID}


@pytest.mark.parametrize("fields", [{}, _CALL])
@pytest.mark.parametrize(
    "model",
    [
        "echo",
        "usage-doubled",
        "usage-missing",
        "stream-error",
        "stream-error-billed",
        "stream-error-usage",
        "stream-error-last",
    ],
)
def test_events_are_numbered_in_order(model: str, fields: dict[str, Any]) -> None:
    """Also in every failing variant."""
    found = events(ask_in("responses", f"sandbox/{model}", **fields))
    assert [event["sequence_number"] for event in found] == list(range(len(found)))


def test_a_tool_call_is_an_item_of_its_own() -> None:
    """Streamed in pieces of its arguments, and whole in the response."""
    found = events(ask_in("responses", **_CALL))
    deltas = [event["delta"] for event in found if event["type"] == "response.function_call_arguments.delta"]
    assert "".join(deltas) == '{"city":"text"}'
    [item] = document(ask_in("responses", stream=False, **_CALL))["output"]
    assert found[-1]["response"]["output"] == [item]
    assert (item["type"], item["name"], item["arguments"]) == ("function_call", "get_weather", '{"city":"text"}')


def test_errors_have_this_dialects_shape() -> None:
    """A flat error event, a failed response with its usage, and a refusal whose code is a string."""
    [bare] = events(ask_in("responses", "sandbox/stream-error-402"))
    assert (bare["type"], bare["code"]) == ("error", "payment_required")
    billed = ask_in("responses", "sandbox/stream-error-billed")
    last = events(billed)[-1]
    assert (last["type"], last["response"]["error"]["code"]) == ("response.failed", "server_error")
    assert last["response"]["usage"]["cost"] > 0
    assert document(ask_in("responses", "sandbox/error-429"))["error"]["code"] == "rate_limit_exceeded"


def test_a_short_answer_is_incomplete() -> None:
    """The ceiling ends it with an event of its own."""
    last = events(ask_in("responses", "sandbox/long-20", max_output_tokens=5))[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


def test_a_format_that_no_writer_takes_is_not_repeated() -> None:
    """It is no reason not to answer."""
    form = {"type": "text", "odd": 10**30}
    found = document(ask_in("responses", stream=False, text={"format": form}))
    assert found["text"] == {"format": {"type": "text"}}
