"""The events of /messages are Anthropic's, each named, with cost in the last usage."""

from typing import Any

from tests.simulator.asking import GENERATION_ID, ask_in, document, events, raw

_CALL: dict[str, Any] = {
    "tools": [{"name": "get_weather", "input_schema": {"type": "object", "properties": {"city": {}}}}],
    "tool_choice": {"type": "any"},
}


def test_a_stream_has_the_documented_events() -> None:
    """Each named by its type, from message_start with the id to message_stop; the cost is in message_delta."""
    found = events(ask_in("messages"))
    assert list(dict.fromkeys(event["type"] for event in found)) == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert all(f"event: {event['type']}\ndata: ".encode() in raw(ask_in("messages")) for event in found)
    assert found[0]["message"]["id"] == GENERATION_ID
    assert "".join(event["delta"]["text"] for event in found[2:-3]) == "Say this back."
    assert (found[-2]["delta"]["stop_reason"], found[-2]["usage"]["cost"] > 0) == ("end_turn", True)
    assert b"[DONE]" not in raw(ask_in("messages"))


def test_a_tool_is_used_with_an_object() -> None:
    """Streamed as pieces of JSON, whole as an object."""
    found = events(ask_in("messages", **_CALL))
    assert found[1]["content_block"]["name"] == "get_weather"
    assert "".join(event["delta"]["partial_json"] for event in found[2:-3]) == '{"city":"text"}'
    assert found[-2]["delta"]["stop_reason"] == "tool_use"
    whole = document(ask_in("messages", stream=False, **_CALL))
    [block] = whole["content"]
    assert (block["type"], block["input"], whole["stop_reason"]) == ("tool_use", {"city": "text"}, "tool_use")


def test_arguments_that_were_cut_short_are_no_object() -> None:
    """The block then has an empty object, and the stop reason explains it."""
    whole = document(ask_in("messages", stream=False, **(_CALL | {"max_tokens": 2})))
    assert (whole["content"][0]["input"], whole["stop_reason"]) == ({}, "max_tokens")


def test_errors_have_this_dialects_shape() -> None:
    """An error event by name, the same object where nothing is streamed, and Anthropic's types."""
    [bare] = events(ask_in("messages", "sandbox/stream-error-402"))
    assert (bare["type"], bare["error"]["type"]) == ("error", "billing_error")
    assert raw(ask_in("messages", "sandbox/stream-error")).count(b"event: error\n") == 1
    *_, failed, billed = events(ask_in("messages", "sandbox/stream-error-billed"))
    assert (failed["error"]["type"], billed["usage"]["cost"] > 0) == ("api_error", True)
    refused = document(ask_in("messages", "sandbox/error-529", stream=False))
    assert (refused["type"], refused["error"]["type"]) == ("error", "overloaded_error")
