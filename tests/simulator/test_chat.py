"""Chat and completions: tool calls have the recorded form, and the older endpoint returns text."""

from typing import Any

from tests.gateway.recordings import recording
from tests.simulator.asking import GENERATION_ID, ask, ask_in, document, events, usages

_TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {}}}},
}
_CALL: dict[str, Any] = {"tools": [_TOOL], "tool_choice": "required"}


def test_a_tool_call_is_streamed_as_recorded() -> None:
    """Name and id first, then pieces of the arguments, finish_reason tool_calls, usage."""
    found = events(ask("sandbox/echo", **_CALL))
    calls = [call for event in found for call in event["choices"][0]["delta"].get("tool_calls", [])]
    assert (calls[0]["function"]["name"], calls[0]["id"].startswith("call_")) == ("get_weather", True)
    assert "".join(call["function"]["arguments"] for call in calls) == '{"city":"text"}'
    assert [event["choices"][0]["finish_reason"] for event in found[-2:]] == ["tool_calls"] * 2
    recorded = recording("toolcall").body
    assert b'"tool_calls":[{"index":0,"id":"call_' in recorded
    assert b'"tool_calls":[{"index":0,"function":{"arguments":' in recorded


def test_a_tool_call_stands_in_the_message() -> None:
    """Not streamed, with no text beside it."""
    choice: Any = document(ask("sandbox/echo", stream=False, **_CALL))["choices"][0]
    [call] = choice["message"]["tool_calls"]
    assert call["function"] == {"name": "get_weather", "arguments": '{"city":"text"}'}
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)


def test_completions_say_text() -> None:
    """In each chunk and in the document, with the same usage."""
    found = events(ask_in("completions"))
    assert {event["object"] for event in found} == {"text_completion"}
    assert "".join(event["choices"][0]["text"] for event in found) == "Say this back."
    whole = document(ask_in("completions", stream=False))
    assert (whole["id"], whole["choices"][0]["text"]) == (GENERATION_ID, "Say this back.")
    assert whole["usage"] == usages(ask_in("completions"))[0]
