"""Text, ceiling, tool and schema of a request are read alike in each dialect."""

import json
from typing import Any

import pytest

from simulator.parsed_request import read_request

_SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_CITY = '{"city":"text"}'
_WEATHER: dict[str, Any] = {
    "chat/completions": {"type": "function", "function": {"name": "get_weather", "parameters": _SCHEMA}},
    "responses": {"type": "function", "name": "get_weather", "parameters": _SCHEMA},
    "messages": {"name": "get_weather", "input_schema": _SCHEMA},
}
_ANY: dict[str, Any] = {"chat/completions": "required", "responses": "required", "messages": {"type": "any"}}
_NAMED: dict[str, Any] = {
    "chat/completions": {"type": "function", "function": {"name": "get_weather"}},
    "responses": {"type": "function", "name": "get_weather"},
    "messages": {"type": "tool", "name": "get_weather"},
}
_NONE: dict[str, Any] = {"chat/completions": "none", "responses": "none", "messages": {"type": "none"}}
_RESULT: dict[str, Any] = {
    "chat/completions": [{"role": "tool", "tool_call_id": "c", "content": "sunny"}],
    "responses": [{"type": "function_call_output", "call_id": "c", "output": "sunny"}],
    "messages": [
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "sunny"}]},
    ],
}
TOOLED = list(_WEATHER)


def _body(dialect: str, text: str, /, *more: object, **fields: object) -> dict[str, object]:
    field = "input" if dialect == "responses" else "messages"
    return {field: [{"role": "user", "content": text}, *more], **fields}


@pytest.mark.parametrize("dialect", TOOLED)
def test_a_tool_is_called_where_it_is_demanded_or_named(dialect: str) -> None:
    """By tool_choice, by its name in it, or by the question; not by a longer word that contains the name."""
    tools = [_WEATHER[dialect]]
    for choice in (_ANY[dialect], _NAMED[dialect]):
        asked = read_request(_body(dialect, "hi", tools=tools, tool_choice=choice), dialect)
        assert (asked.tool, asked.content) == ("get_weather", _CITY)
    assert read_request(_body(dialect, "Use get_weather.", tools=tools), dialect).tool == "get_weather"
    assert read_request(_body(dialect, "Use get_weather2.", tools=tools), dialect).tool == ""
    assert read_request(_body(dialect, "get_weather", tools=tools, tool_choice=_NONE[dialect]), dialect).tool == ""
    assert read_request(_body(dialect, "get_weather"), dialect).tool == ""


@pytest.mark.parametrize("dialect", TOOLED)
def test_after_a_tools_result_comes_text(dialect: str) -> None:
    """Even where a call is demanded, or a client would call for ever."""
    body = _body(dialect, "get_weather", *_RESULT[dialect], tools=[_WEATHER[dialect]], tool_choice=_ANY[dialect])
    asked = read_request(body, dialect)
    assert (asked.tool, asked.content, asked.text) == ("", None, "sunny")


@pytest.mark.parametrize(
    ("dialect", "fields"),
    [
        ("chat/completions", {"response_format": {"type": "json_schema", "json_schema": {"schema": _SCHEMA}}}),
        ("responses", {"text": {"format": {"type": "json_schema", "schema": _SCHEMA}}}),
        ("messages", {"output_config": {"format": {"type": "json_schema", "schema": _SCHEMA}}}),
        ("messages", {"output_format": {"type": "json_schema", "schema": _SCHEMA}}),
    ],
)
def test_a_schema_is_answered_by_an_instance(dialect: str, fields: dict[str, object]) -> None:
    """Wherever the dialect puts it."""
    assert read_request(_body(dialect, "hi", **fields), dialect).content == _CITY


def test_any_object_holds_the_answer() -> None:
    """`json_object` names no schema."""
    asked = read_request(_body("responses", "hi", text={"format": {"type": "json_object"}}), "responses")
    assert json.loads(asked.content or "") == {"answer": "hi"}


@pytest.mark.parametrize(
    ("dialect", "body", "texts"),
    [
        ("completions", {"prompt": ["one", "two"]}, ("one", "two")),
        ("completions", {"prompt": [1, 2]}, ("00000000",)),
        ("embeddings", {"input": ["one", [7]]}, ("one", "0000")),
        ("embeddings", {"input": "one"}, ("one",)),
        ("responses", {"input": "one", "instructions": "be"}, ("be", "one")),
        ("messages", {"system": [{"text": "be"}], "messages": [{"role": "user", "content": "one"}]}, ("be", "one")),
    ],
)
def test_the_whole_prompt_is_read(dialect: str, body: dict[str, object], texts: tuple[str, ...]) -> None:
    """Instructions, several prompts and lists of tokens."""
    assert read_request(body, dialect).texts == texts


@pytest.mark.parametrize("dialect", ["chat/completions", "completions", "embeddings", "responses", "messages"])
def test_what_cannot_be_answered_is_said(dialect: str) -> None:
    """A body without a prompt in its own field; a schema without an instance."""
    assert read_request({"question": "hi"}, dialect).problem.startswith("Input required")
    form = {"type": "json_schema", "json_schema": {"schema": False}}
    assert read_request(_body("chat/completions", "hi", response_format=form), "chat/completions").problem


@pytest.mark.parametrize(("dialect", "field"), [("responses", "max_output_tokens"), ("messages", "max_tokens")])
def test_each_dialect_has_its_ceiling(dialect: str, field: str) -> None:
    """By its own name, and refused by it."""
    assert read_request(_body(dialect, "hi", **{field: 5}), dialect).limit == 5
    assert field in read_request(_body(dialect, "hi", **{field: 0}), dialect).problem
