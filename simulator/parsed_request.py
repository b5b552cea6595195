"""Parses a request of any dialect: the prompt's texts, the output ceiling, and the kind of answer it needs.

Rule: a tool is called if it is demanded, or offered and named in the question; its result is answered with text.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from simulator.instances import instance_of
from simulator.small_talk import reply

_CEILINGS = {
    "chat/completions": ("max_tokens", "max_completion_tokens"),
    "completions": ("max_tokens", "max_completion_tokens"),
    "embeddings": (),
    "responses": ("max_output_tokens",),
    "messages": ("max_tokens",),
}
_PROMPT = {
    "chat/completions": 'Input required: specify "prompt" or "messages"',
    "completions": 'Input required: specify "prompt"',
    "embeddings": 'Input required: specify "input"',
    "responses": 'Input required: specify "input"',
    "messages": 'Input required: specify "messages"',
}
_DEMANDS = ("required", "any")
_RESULT = "tool"
_WORD = re.compile(r"[\w-]+")


@dataclass(frozen=True)
class ParsedRequest:
    """`texts`: the whole prompt. `text`: the text that an echo repeats. `limit`: the output ceiling in tokens.

    `tool`: the name of the tool to call. `content`: the JSON to answer with (tool arguments or structured output);
    None: text. `problem`: the message of a 400, empty if the request is valid.
    """

    texts: tuple[str, ...]
    text: str = ""
    limit: int | None = None
    tool: str = ""
    content: str | None = None
    problem: str = ""


def read_request(body: Mapping[str, object], dialect: str) -> ParsedRequest:
    """Parse a request; `dialect` is the path below `/v1/`."""
    turns = _turns(body, dialect)
    if not turns:
        return ParsedRequest((), problem=_PROMPT[dialect])
    limit = _limit(body, _CEILINGS[dialect])
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        return ParsedRequest((), problem=f"{_CEILINGS[dialect][0]} must be a positive integer")
    role, text = turns[-1]
    if role != _RESULT:
        text = next((part for role, part in reversed(turns) if role == "user"), text)
    called = _called(body, dialect, text) if role != _RESULT else None
    try:
        content = _json(instance_of(called[1])) if called else _formatted(body, dialect, text)
    except (ValueError, TypeError) as error:
        return ParsedRequest((), problem=str(error)[:300])
    texts = tuple(part for _, part in turns)
    if turns[0][0] == "system":
        text = reply(turns[0][1], text) or text
    return ParsedRequest(texts, text or "Hello from the sandbox.", limit, called[0] if called else "", content)


def inputs_of(body: Mapping[str, object]) -> list[object]:
    """Return the inputs to embed, each a text or a list of tokens."""
    given = body.get("input")
    if isinstance(given, list) and not all(isinstance(each, int) for each in given):
        return given
    return [given]


def text_of(content: object) -> str:
    """Return the text of a message's content, a string or a list of parts."""
    if isinstance(content, str):
        return content
    texts = [part.get("text") for part in _objects(content)]
    return "".join(text for text in texts if isinstance(text, str))


def _turns(body: Mapping[str, object], dialect: str) -> list[tuple[str, str]]:
    """Return the parts of the prompt as (role, text), in order."""
    if dialect == "embeddings":
        given = body.get("input")
        return [("user", _tokens_as_text(each)) for each in inputs_of(body)] if given else []
    if dialect == "responses":
        return [*_instructions(body, "instructions"), *_items(body.get("input"))] if body.get("input") else []
    if dialect == "messages":
        turns = [turn for message in _objects(body.get("messages")) for turn in _blocks(message)]
        return [*_instructions(body, "system"), *turns] if turns else []
    messages = _objects(body.get("messages")) if dialect == "chat/completions" else []
    if messages:
        return [(str(message.get("role")), text_of(message.get("content"))) for message in messages]
    prompt = body.get("prompt")
    if isinstance(prompt, list):
        return [("user", _tokens_as_text(each)) for each in (prompt if _are_texts(prompt) else [prompt])]
    return [("user", prompt)] if isinstance(prompt, str) else []


def _instructions(body: Mapping[str, object], name: str) -> list[tuple[str, str]]:
    return [("system", text_of(body[name]))] if body.get(name) else []


def _items(given: object) -> list[tuple[str, str]]:
    if isinstance(given, str):
        return [("user", given)]
    return [
        (_RESULT, text_of(item.get("output")))
        if item.get("type") == "function_call_output"
        else (str(item.get("role")), text_of(item.get("content")))
        for item in _objects(given)
    ]


def _blocks(message: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the parts of an Anthropic message: its text, then its tool results."""
    results = [each for each in _objects(message.get("content")) if each.get("type") == "tool_result"]
    turn = (str(message.get("role")), text_of(message.get("content")))
    return [turn, *((_RESULT, text_of(each.get("content"))) for each in results)]


def _are_texts(prompt: list[object]) -> bool:
    return not all(isinstance(each, int) for each in prompt)


def _tokens_as_text(given: object) -> str:
    """Return a text unchanged, and four characters for each token of a list."""
    return given if isinstance(given, str) else "0000" * len(given) if isinstance(given, list) else ""


def _limit(body: Mapping[str, object], names: tuple[str, ...]) -> object:
    limits = [limit for name in names if (limit := body.get(name)) is not None]
    whole = [limit for limit in limits if isinstance(limit, int)]
    return min(whole) if limits and len(whole) == len(limits) else next(iter(limits), None)


def _called(body: Mapping[str, object], dialect: str, text: str) -> tuple[str, object] | None:
    """Return the name and schema of the tool to call, or None."""
    kinds = (None, "custom") if dialect == "messages" else ("function",)
    offered: dict[str, object] = {}
    for tool in _objects(body.get("tools")):
        place = tool.get("function", tool)
        if tool.get("type") in kinds and isinstance(place, dict) and isinstance(place.get("name"), str):
            offered[place["name"]] = place.get("parameters", place.get("input_schema")) or {"type": "object"}
    choice = body.get("tool_choice")
    function = choice.get("function", choice) if isinstance(choice, dict) else {}
    named = function.get("name") if isinstance(function, dict) else None
    kind = choice.get("type") if isinstance(choice, dict) else choice
    if kind == "none" or not offered:
        return None
    if isinstance(named, str):
        return (named, offered[named]) if named in offered else None
    # One pass over the text regardless of the number of tools.
    words = set(_WORD.findall(text))
    wanted = [name for name in offered if name in words]
    if kind in _DEMANDS:
        wanted = wanted or list(offered)
    return (wanted[0], offered[wanted[0]]) if wanted else None


def _formatted(body: Mapping[str, object], dialect: str, text: str) -> str | None:
    """Return the JSON that the requested output format needs, None for text."""
    held = {"responses": "text", "messages": "output_config"}.get(dialect)
    place = body.get(held) if held else body
    form = place.get("format" if held else "response_format") if isinstance(place, dict) else None
    form = form or (body.get("output_format") if dialect == "messages" else None)
    if not isinstance(form, dict) or dialect == "embeddings":
        return None
    if form.get("type") == "json_object":
        return _json({"answer": text})
    if form.get("type") != "json_schema":
        return None
    inner = form.get("json_schema", form)
    return _json(instance_of(inner.get("schema", {}) if isinstance(inner, dict) else {}))


def _json(value: object) -> str:
    return orjson.dumps(value, default=float).decode()


def _objects(listed: object) -> list[dict[str, object]]:
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
