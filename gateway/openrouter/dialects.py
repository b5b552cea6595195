"""One table of all metered dialects: the names of their parts in requests, answers and errors.

Rule: every column is filled for every dialect. Nothing outside this file names a field, an event or an error code of a
single dialect; tests/gateway/openrouter/test_dialects.py covers dialect × column.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

Path = tuple[str, ...]
"""The path to a value: member names from the top down. At its end may be EACH, for every item of a list."""
EACH = "[]"


class Dialect(StrEnum):
    """The metered dialects; the value: the path below `/v1/`."""

    CHAT = "chat/completions"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    RESPONSES = "responses"
    MESSAGES = "messages"


@dataclass(frozen=True, slots=True)
class StreamError:
    """An error of ours, to be sent inside a running stream. `sequence`: the number of its event."""

    code: str
    type: str
    message: str
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Wire:
    """One row: three columns of the request, then those of the answer.

    `client_tools`: the `type` of tools that the caller runs; any other runs at OpenRouter. `ceilings`: empty if there
    is no output. `ids`, `usages`: their paths. `errors`: the paths of objects that may have an `error`, an object or a
    bare string. `failures`: the `type` of an object that is an error as a whole, with or without a message. `work`: the
    members with delivered text, reasoning, tool arguments, media or vectors, by the paths of the objects that have
    them. `starts`: events before any work, after whose cost more may follow.
    `ends`: the `type` of the event that ends an answer, beside `[DONE]`, which ends any. `pings`: keep-alive events.
    `funding`: codes and types of errors about the funding key or its credit. `error_event`: encodes an error of ours
    for a stream. `enclose`: makes the body of an error answer of ours from its status and its members.
    """

    prompts: tuple[str, ...]
    ceilings: tuple[str, ...]
    client_tools: tuple[str | None, ...]
    ids: tuple[Path, ...]
    usages: tuple[Path, ...]
    work: Mapping[Path, tuple[str, ...]]
    starts: frozenset[str]
    ends: frozenset[str]
    pings: frozenset[str]
    errors: tuple[Path, ...]
    failures: frozenset[str]
    funding: frozenset[str]
    error_event: Callable[[StreamError], bytes]
    enclose: Callable[[int, Mapping[str, object]], dict[str, object]]

    @property
    def work_paths(self) -> tuple[Path, ...]:
        """The paths of all members with delivered output."""
        return tuple((*place, name) for place, names in self.work.items() for name in names)


def _event_in_member(error: StreamError) -> bytes:
    """`data: {"error": …}`, OpenRouter's form in chat."""
    return _event({"error": {"code": error.code, "type": error.type, "message": error.message}})


def _flat_event(error: StreamError) -> bytes:
    """The flat error event, with an `error` member too, because OpenAI's libraries raise only for that."""
    flat = {"type": "error", "code": error.code, "message": error.message, "param": None}
    inner = {"code": error.code, "type": error.type, "message": error.message}
    return _event({**flat, "sequence_number": error.sequence, "error": inner})


def _named_event(error: StreamError) -> bytes:
    """An event named `error`, for which Anthropic's libraries raise."""
    inner = {"type": error.type, "code": error.code, "message": error.message}
    return b"event: error\n" + _event({"type": "error", "error": inner})


def _enclose_member(_: int, error: Mapping[str, object]) -> dict[str, object]:
    """`{"error": …}`, the form of OpenAI and OpenRouter."""
    return {"error": error}


def _enclose_typed(status: int, error: Mapping[str, object]) -> dict[str, object]:
    """`{"type": "error", "error": …}` with Anthropic's `type` for the status, which its libraries show."""
    kind = _ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {**error, "type": kind}}


# https://docs.anthropic.com/en/api/errors; its 529 corresponds to 503.
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def _event(document: Mapping[str, object]) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


_TOP: Path = ()
_CHOICE = ("choices", EACH)
_TOP_ID, _TOP_USAGE = ("id",), ("usage",)
_ERROR = frozenset({"error"})
# Names of OpenRouter and of OpenAI; `error_type` and `code` have values of the same list.
_OPENAI_FUNDING = frozenset(
    {"payment_required", "insufficient_credits", "insufficient_quota", "authentication", "authentication_error"}
)

WIRE: Mapping[Dialect, Wire] = {
    Dialect.CHAT: Wire(
        prompts=("messages", "prompt"),
        ceilings=("max_tokens", "max_completion_tokens"),
        client_tools=("function",),
        ids=(_TOP_ID,),
        usages=(_TOP_USAGE,),
        work={_CHOICE: ("delta", "message", "text")},
        starts=frozenset(),
        ends=frozenset(),
        pings=frozenset({"ping"}),
        errors=(_TOP, _CHOICE),
        failures=_ERROR,
        funding=_OPENAI_FUNDING,
        error_event=_event_in_member,
        enclose=_enclose_member,
    ),
    Dialect.COMPLETIONS: Wire(
        prompts=("prompt",),
        ceilings=("max_tokens", "max_completion_tokens"),
        client_tools=("function",),
        ids=(_TOP_ID,),
        usages=(_TOP_USAGE,),
        work={_CHOICE: ("text", "reasoning", "reasoning_details", "delta", "message")},
        starts=frozenset(),
        ends=frozenset(),
        pings=frozenset({"ping"}),
        errors=(_TOP, _CHOICE),
        failures=_ERROR,
        funding=_OPENAI_FUNDING,
        error_event=_event_in_member,
        enclose=_enclose_member,
    ),
    Dialect.EMBEDDINGS: Wire(
        prompts=("input",),
        ceilings=(),
        client_tools=("function",),
        ids=(_TOP_ID,),
        usages=(_TOP_USAGE,),
        work={("data", EACH): ("embedding",)},
        starts=frozenset(),
        ends=frozenset(),
        pings=frozenset({"ping"}),
        errors=(_TOP,),
        failures=_ERROR,
        funding=_OPENAI_FUNDING,
        error_event=_event_in_member,
        enclose=_enclose_member,
    ),
    Dialect.RESPONSES: Wire(
        prompts=("input",),
        ceilings=("max_output_tokens",),
        client_tools=("function",),
        ids=(("response", "id"), _TOP_ID),
        usages=(("response", "usage"), _TOP_USAGE),
        work={_TOP: ("delta", "partial_image_b64", "item", "part", "output"), ("response",): ("output",)},
        starts=frozenset({"response.created", "response.in_progress", "response.queued"}),
        ends=frozenset({"response.completed", "response.incomplete", "response.failed"}),
        pings=frozenset({"ping", "keepalive"}),
        errors=(_TOP, ("response",)),
        failures=_ERROR | {"response.error", "response.failed"},
        funding=_OPENAI_FUNDING,
        error_event=_flat_event,
        enclose=_enclose_member,
    ),
    Dialect.MESSAGES: Wire(
        prompts=("messages",),
        ceilings=("max_tokens",),
        # Anthropic's server tools have a dated type; a tool that the client runs has none, or "custom".
        client_tools=(None, "custom", "function"),
        ids=(("message", "id"), _TOP_ID),
        usages=(_TOP_USAGE, ("message", "usage")),
        work={
            ("delta",): ("text", "thinking", "signature", "partial_json", "citation", "content"),
            _TOP: ("content_block", "content"),
        },
        starts=frozenset({"message_start"}),
        ends=frozenset({"message_stop"}),
        pings=frozenset({"ping"}),
        errors=(_TOP, ("message",)),
        failures=_ERROR,
        funding=_OPENAI_FUNDING | {"billing_error"},
        error_event=_named_event,
        enclose=_enclose_typed,
    ),
}

# OpenRouter may use one dialect's places in another, and searching an empty place costs nothing.
# Each path as its first name, with which most documents have nothing at it, and the rest.
ID_PATHS = tuple(dict.fromkeys((path[0], path[1:]) for row in WIRE.values() for path in row.ids))
USAGE_PATHS = tuple(dict.fromkeys((path[0], path[1:]) for row in WIRE.values() for path in row.usages))
ERROR_PLACES = tuple(dict.fromkeys(place for row in WIRE.values() for place in row.errors))
FAILURES = frozenset(kind for row in WIRE.values() for kind in row.failures)
FUNDING_NAMES = frozenset(name for row in WIRE.values() for name in row.funding)
PLACES = tuple(dict.fromkeys(first for first, rest in (*ID_PATHS, *USAGE_PATHS) if rest))
"""The members that may contain an id or a usage, beside the top level."""

# Members that name or describe a piece of output without being output, also in events that announce it.
_BESIDE_WORK = frozenset(
    {
        "call_id",
        "caller",
        "finish_reason",
        "format",
        "id",
        "index",
        "item_id",
        "name",
        "namespace",
        "native_finish_reason",
        "object",
        "phase",
        "role",
        "status",
        "stop_reason",
        "tool_use_id",
        "type",
    }
)

# A tool's arguments as an object, whose values of any type are output.
_TOOL_INPUT = "input"


def found(document: object, path: Path) -> list[object]:
    """Return the value at a path; with EACH at its end, the items of the list there."""
    for name in path:
        if name == EACH:
            return document if isinstance(document, list) else []
        if not isinstance(document, dict) or name not in document:
            return []
        document = document[name]
    return [document]


def value_at(document: object, path: Path) -> object:
    """Return the value at a path without EACH, None if there is none."""
    for name in path:
        if not isinstance(document, dict):
            return None
        document = document.get(name)
    return document


@cache
def marks(kinds: frozenset[str]) -> tuple[bytes, ...]:
    """Return the names of events as JSON strings."""
    return tuple(f'"{kind}"'.encode() for kind in sorted(kinds))


def carries_work(wire: Wire, document: Mapping[str, object]) -> bool:
    """Return whether one event or body contains delivered output; too deeply nested JSON counts as output."""
    try:
        for place, names in wire.work.items():
            for each in found(document, place):
                if isinstance(each, dict):
                    for name in names:
                        if name in each and _holds_output(each[name]):
                            return True
    except RecursionError:
        return True
    return False


def _holds_output(value: object) -> bool:
    if isinstance(value, str):
        return value != ""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name not in _BESIDE_WORK and (_holds_output(inner) or (name == _TOOL_INPUT and bool(inner))):
                return True
        return False
    if isinstance(value, list):
        # A number in a list is part of a vector; elsewhere an index or a time.
        return any(_holds_output(each) or _is_number(each) for each in value)
    return False


def _is_number(value: object) -> bool:
    return not isinstance(value, str | dict | list | bool) and value is not None
