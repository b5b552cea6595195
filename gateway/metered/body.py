"""Parses a request's bytes to ChatRequest, and lowers its output ceiling, which is the only rewrite.

The body is relayed byte for byte. Only `shortened` changes it, and then only the number after the ceiling's key.
JSON that two parsers could read differently (duplicate keys, NaN, lone surrogates) is refused, because OpenRouter's
parser decides the bill and ours decides the hold.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn, Self

from gateway.errors import InvalidRequest
from gateway.ledger.worst_case import MIN_OUTPUT_TOKENS
from gateway.metered.floor import TELLING_FIELDS, fewest_tokens
from gateway.metered.weight import TELLING_FIELDS as WEIGHED_FIELDS
from gateway.metered.weight import Weight, weigh
from gateway.openrouter.dialects import WIRE, Dialect, Wire
from gateway.strict_json import Number, canonical_json

MAX_MODEL_CHARS = 256
MAX_OUTPUT_TOKENS = 10_000_000
MAX_CHOICES = 128
MAX_FALLBACKS = 64

# The memory of a list, an object or a fraction, however short its text is.
_VALUE_BYTES = 100

_WHITESPACE = re.compile(r"[ \t\n\r]*")


# The family whose tokenizers add marks for words and capitals.
_MARKED_FAMILY = "anthropic/"

# Fields that make OpenRouter or the provider do billed work beyond the tokens of one answer (searches, other models,
# rejected predictions, remote tools).
_UNBOUNDED_FIELDS = ("plugins", "web_search_options", "prediction", "audio", "preset", "mcp_servers", "container")
# A request without any of these fields, as most are, has one model, one prompt, one answer and no reasoning budget; its
# answer may be cut anywhere, and only its model's name can make it open-ended.
_SPECIAL_FIELDS = (TELLING_FIELDS | WEIGHED_FIELDS).union(
    ("models", "fallbacks", "prompt", "input", "n", "best_of", "reasoning", "thinking"),
    (*_UNBOUNDED_FIELDS, "service_tier", "speed", "tools", "modalities", "provider", "context_management"),
)
# Suffixes of a provider's name that select its dearer tier, as `service_tier` does.
_DEARER_TIERS = ("/priority", "/fast")
# Tiers at or below the list price; any other is billed above it.
_LISTED_TIERS = (None, "auto", "default", "standard", "standard_only", "flex")


@dataclass(slots=True, init=False)  # passing its fields to an initializer takes as long as parsing the body
class ChatRequest:
    """The parts of a metered request that the gateway uses. Immutable.

    `model`: the first that may be billed; `fallbacks`: the others of `models[]`. `max_tokens`: the caller's output
    ceiling for each of `choices` answers; `ceiling_field`: its field (of two, the one with the larger value).
    `weight`: its `bytes` are an upper bound of the prompt tokens (see `metered/pricing.py`). `open_ended`: tokens do
    not bound the cost. `has_output`: the answer consists of output tokens (not so for embeddings).
    `least_tokens`: of a useful answer.
    """

    body: bytes
    document: Mapping[str, object]
    dialect: Dialect
    model: str
    fallbacks: tuple[str, ...]
    stream: bool
    ceiling_field: str | None
    max_tokens: int | None
    has_output: bool
    prompts: int
    choices: int
    thinking_tokens: int
    least_tokens: int
    weight: Weight
    open_ended: bool

    @classmethod
    def parse(cls, body: bytes, dialect: Dialect = Dialect.CHAT) -> Self:
        """Parse `body`. Raises InvalidRequest: 400 if it is not an unambiguous JSON object, 422 if a field is wrong."""
        document, wire, request = canonical_json(body), WIRE[dialect], cls()
        is_special = not _SPECIAL_FIELDS.isdisjoint(document)
        fallbacks = _fallbacks(document) if is_special else []
        request.body, request.document, request.dialect = body, document, dialect
        named = document.get("model")
        request.model = named = _first(fallbacks) if named is None else _model_id(named, "model")
        request.ceiling_field, request.max_tokens = _ceiling(document, wire)
        request.has_output = wire.ceilings != ()
        _require_prompt(document, wire)
        request.stream = _flag(document, "stream")
        request.fallbacks, request.prompts, request.choices = (), 1, 1
        request.thinking_tokens, request.least_tokens = 0, MIN_OUTPUT_TOKENS
        is_open_ended = False
        if is_special:
            request.fallbacks, request.prompts = tuple(fallbacks), _prompts(document, dialect)
            request.choices = _choices(document, dialect) * request.prompts
            request.thinking_tokens = _thinking_tokens(document)
            request.least_tokens = fewest_tokens(document, request.thinking_tokens)
            named = "\n".join((named, *fallbacks))
            is_open_ended = _is_open_ended(document, wire)
        request.weight = weigh(document, is_marked=_MARKED_FAMILY in named, is_telling=is_special)
        request.open_ended = is_open_ended or request.weight.unbounded or "@preset" in named or ":online" in named
        return request

    @property
    def kept_bytes(self) -> int:
        """Its approximate memory in bytes: the body and the values parsed from it."""
        return len(self.body) + _VALUE_BYTES * self.weight.values

    def shortened(self, max_tokens: int) -> bytes:
        """Return the body with its output ceiling lowered to `max_tokens` and every other byte unchanged.

        Each ceiling above `max_tokens` is lowered; a null one is set if there is no other; one is appended if there is
        none. A lower ceiling is kept. Raises ValueError for a dialect without output, and InvalidRequest if the body is
        nested too deeply for the remaining stack.
        """
        names = WIRE[self.dialect].ceilings
        if not names or max_tokens < 1:
            raise ValueError("nothing can be shortened to this")
        text = self.body.decode()
        try:
            spans = {key: span for key, span in _members(text) if key in names}
        except RecursionError:
            raise InvalidRequest("The request body is nested too deeply.") from None
        given = {key: self.document[key] for key in spans}
        lowered = [key for key, value in given.items() if isinstance(value, Number) and value > max_tokens]
        if not lowered and all(value is None for value in given.values()):
            lowered = list(given)[:1]
            if not lowered:
                return _appended(text, names[0], max_tokens).encode()
        for start, end in sorted((spans[key] for key in lowered), reverse=True):
            text = f"{text[:start]}{max_tokens}{text[end:]}"
        return text.encode()


def _refuse(message: str) -> NoReturn:
    raise InvalidRequest(message, status=422)


def _fallbacks(document: Mapping[str, object]) -> list[str]:
    """Return the models of `models[]`, and of `fallbacks[]`, which they are in Anthropic's dialect."""
    fallbacks = [_model_id(each, "models[]") for each in _list(document, "models", "model ids")]
    objects = _list(document, "fallbacks", "objects with a `model`")
    named = [each.get("model") if isinstance(each, dict) else None for each in objects]
    return fallbacks + [_model_id(each, "fallbacks[].model") for each in named]


def _first(fallbacks: list[str]) -> str:
    """Take the first fallback for the model."""
    if not fallbacks:
        _refuse("`model` is missing. Name the model to use.")
    return fallbacks.pop(0)


def _list(document: Mapping[str, object], field: str, of: str) -> list[object]:
    listed = document.get(field)
    if listed is None:
        return []
    if not isinstance(listed, list) or len(listed) > MAX_FALLBACKS:
        _refuse(f"`{field}` must be a list of at most {MAX_FALLBACKS} {of}.")
    return listed


def _model_id(value: object, field: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_MODEL_CHARS:
        _refuse(f"`{field}` must be a string of 1 to {MAX_MODEL_CHARS} characters.")
    return value


def _flag(document: Mapping[str, object], field: str) -> bool:
    value = document.get(field)
    if value is not None and not isinstance(value, bool):
        _refuse(f"`{field}` must be true or false.")
    return value is True


def _whole(document: Mapping[str, object], field: str, most: int) -> int | None:
    """Return a whole number in any JSON notation (`100`, `100.0`, `1e2`)."""
    value = document.get(field)
    if value is None or (type(value) is int and 1 <= value <= most):
        return value
    if isinstance(value, bool) or not isinstance(value, Number) or not 1 <= value <= most or value % 1:
        _refuse(f"`{field}` must be a whole number from 1 to {most}.")
    return int(value)


def _ceiling(document: Mapping[str, object], wire: Wire) -> tuple[str | None, int | None]:
    """Return the field with the largest ceiling, and the ceiling."""
    field, most = None, None
    for name in wire.ceilings:
        if name in document:
            value = _whole(document, name, MAX_OUTPUT_TOKENS)
            if value is not None and (most is None or value > most):
                field, most = name, value
    return field, most


def _choices(document: Mapping[str, object], dialect: Dialect) -> int:
    """Return how many answers are billed: `best_of` of the legacy endpoint generates more than it returns."""
    choices = _whole(document, "n", MAX_CHOICES) or 1
    if dialect is Dialect.COMPLETIONS:
        return max(choices, _whole(document, "best_of", MAX_CHOICES) or 1)
    return choices


def _prompts(document: Mapping[str, object], dialect: Dialect) -> int:
    """Return the number of separate prompts: each item of a list of texts or of token lists is one."""
    listed = document.get("input" if dialect is Dialect.EMBEDDINGS else "prompt")
    if not isinstance(listed, list) or dialect is Dialect.RESPONSES:
        return 1
    return max(1, sum(not isinstance(each, int) for each in listed))


def _thinking_tokens(document: Mapping[str, object]) -> int:
    """Return the reasoning budget in tokens, 0 without one or if invalid, which OpenRouter refuses."""
    given = [
        (document.get("reasoning"), "max_tokens"),
        (document.get("thinking"), "budget_tokens"),
    ]
    budgets = [place.get(name) for place, name in given if isinstance(place, dict)]
    return max((int(each) for each in budgets if isinstance(each, Number) and 0 < each <= MAX_OUTPUT_TOKENS), default=0)


def _require_prompt(document: Mapping[str, object], wire: Wire) -> None:
    messages = document.get("messages")
    if messages is not None and not isinstance(messages, list):
        _refuse("`messages` must be a list.")
    is_given = False
    for name in wire.prompts:
        value = document.get(name)
        if value is not None:
            is_given = True
            if name != "messages" and not isinstance(value, str | list):
                _refuse(f"`{name}` must be a string or a list.")
    if not is_given:
        _refuse(f"`{wire.prompts[0]}` is missing. Say what the model should answer.")


def _is_open_ended(document: Mapping[str, object], wire: Wire) -> bool:
    """Return whether a field of the request causes billed work that its tokens do not bound."""
    return (
        any(document.get(field) for field in _UNBOUNDED_FIELDS)
        or isinstance(document.get("web_search_options"), dict)
        or isinstance(document.get("prompt"), dict)
        or _names_dearer_tier(document.get("provider"))
        or _summarizes(document.get("context_management"))
        or document.get("service_tier") not in _LISTED_TIERS
        or document.get("speed") not in (None, "standard")
        or _has_server_tool(document.get("tools"), wire)
        or _names(document.get("modalities"), "audio")
    )


def _names_dearer_tier(provider: object) -> bool:
    listed = [provider.get(name) for name in ("only", "order")] if isinstance(provider, dict) else []
    names = [name for each in listed if isinstance(each, list) for name in each]
    return any(isinstance(name, str) and name.lower().endswith(_DEARER_TIERS) for name in names)


def _summarizes(management: object) -> bool:
    """Return whether upstream may summarize the conversation, which is billed as a separate answer."""
    if not management:
        return False
    edits = management.get("edits") if isinstance(management, dict) else None
    kinds = (
        [edit.get("type") if isinstance(edit, dict) else None for edit in edits] if isinstance(edits, list) else [None]
    )
    return any(not isinstance(kind, str) or kind.startswith("compact") for kind in kinds)


def _has_server_tool(tools: object, wire: Wire) -> bool:
    if not tools:
        return False
    if not isinstance(tools, list):
        return True
    return any(not isinstance(tool, dict) or tool.get("type") not in wire.client_tools for tool in tools)


def _names(listed: object, name: str) -> bool:
    return isinstance(listed, list) and name in listed


def _members(text: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield each top-level key of a valid JSON object with the span of its value in `text`."""
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "}":
        key, at = _SCANNER.raw_decode(text, at)
        start = _skip(text, _skip(text, at) + 1)
        _, end = _SCANNER.raw_decode(text, start)
        yield key, (start, end)
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at


_SCANNER = json.JSONDecoder()


def _skip(text: str, at: int) -> int:
    found = _WHITESPACE.match(text, at)
    return found.end() if found else at


def _appended(text: str, field: str, max_tokens: int) -> str:
    """Append the field after the last member (an empty object was already refused)."""
    brace = text.rindex("}")
    end = len(text[:brace].rstrip(" \t\n\r"))
    return f'{text[:end]},"{field}":{max_tokens}{text[end:]}'
