"""Reads generation id, usage and errors from one JSON object of an answer, in any dialect.

Never raises: an unreadable value counts as absent, and an absent cost is not zero. So do an id that cannot be stored or
put into a URL, and an absurd cost.
"""

import json
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import orjson

from gateway.money import nano_from_double, nano_from_usd
from gateway.openrouter.dialects import ERROR_PLACES, FAILURES, ID_PATHS, USAGE_PATHS, found, value_at
from gateway.strict_json import keeps_numbers

_PROMPT_DETAILS = ("prompt_tokens_details", "input_tokens_details")
# The names of what is searched in an answer's bytes, where a usage or an error may be.
USAGE_MARK, ERROR_MARK = b'"usage"', b'"error"'
FAILURE_MARK = b'"response.'
"""Stands, or ERROR_MARK does, wherever the `type` of a failure stands."""
_MOST_ID_CHARACTERS = 128


@dataclass(slots=True)
class Usage:
    """The usage of an answer. `cost_nano`: rounded up; for BYOK the fee plus the provider's bill.

    None means not stated, which is not zero. `prompt_tokens` include those read from a cache and those written to one,
    also if upstream counts them separately (/messages).
    """

    cost_nano: int | None
    prompt_tokens: int | None
    completion_tokens: int | None
    is_byok: bool
    cached_tokens: int = 0
    written_tokens: int = 0


@dataclass(frozen=True, slots=True)
class AnswerError:
    """One error object of upstream; `code`: a number, a name or missing."""

    code: int | str | None
    message: str
    error_type: str | None
    metadata_keys: frozenset[str] = frozenset()


def _exact(literal: str) -> Decimal | None:
    try:
        return Decimal(literal)
    except InvalidOperation:
        return None


def _nothing(_: str) -> None:
    return None


_DECODER = json.JSONDecoder(parse_float=_exact, parse_constant=_nothing)


def parsed(data: bytes) -> dict[str, object]:
    """Parse a JSON object with fractions as Decimal; return an empty one for anything else."""
    document = parsed_value(data)
    return document if isinstance(document, dict) else {}


def parsed_answer(data: bytes) -> dict[str, object]:
    """Do as `parsed` with a faster parser. A fraction may be a double; in a usage the `repr` has its value.

    The fast parser accepts no JSON that the other refuses, and both use the last of repeated keys.
    """
    _, mark, rest = data.partition(USAGE_MARK)
    if not mark or keeps_numbers(rest):
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError:
            return parsed(data)
        return document if type(document) is dict else {}
    return parsed(data)


def parsed_value(data: bytes) -> object:
    """Parse a JSON value; return None for anything else."""
    try:
        return _DECODER.decode(data.decode())
    except (ValueError, RecursionError):
        return None


def fit_id(found: object) -> str | None:
    """Return a generation id if it can be stored and put into a URL, else None: 1 to 128 of the characters ! to ~."""
    if not isinstance(found, str) or not 0 < len(found) <= _MOST_ID_CHARACTERS:
        return None
    return found if found.isascii() and found.isprintable() and " " not in found else None


def find_id(document: dict[str, object]) -> str | None:
    """Return the generation id of one event or body, if it has a valid one."""
    for first, rest in ID_PATHS:
        if first in document and (fit := fit_id(value_at(document[first], rest))) is not None:
            return fit
    return None


def find_usage(document: dict[str, object]) -> Usage | None:
    """Return the non-null usage of one event or body."""
    for first, rest in USAGE_PATHS:
        if first in document and isinstance(value := value_at(document[first], rest), dict):
            return read_usage(value)
    return None


def read_usage(usage: dict[str, object]) -> Usage | None:
    """Parse one usage object, with the names of chat or those of /responses and /messages."""
    if not usage:
        return None
    is_byok = usage.get("is_byok") is True
    prompt = _count(usage, "prompt_tokens", "input_tokens")
    cached = written = 0
    if "cache_read_input_tokens" in usage or "cache_creation_input_tokens" in usage:
        # Anthropic counts cached tokens separately from the prompt, all others within it.
        cached, written = (
            _count(usage, "cache_read_input_tokens") or 0,
            _count(usage, "cache_creation_input_tokens") or 0,
        )
        prompt = (prompt or 0) + cached + written
    for name in _PROMPT_DETAILS:
        if name in usage and isinstance(details := usage[name], dict):
            cached = cached or _count(details, "cached_tokens") or 0
            written = written or _count(details, "cache_write_tokens", "cache_creation_tokens") or 0
    completion = _count(usage, "completion_tokens", "output_tokens")
    cost_nano = _byok_nano(usage) if is_byok else _nano(usage.get("cost"))
    return Usage(cost_nano, prompt, completion, is_byok, cached, written)


def _byok_nano(usage: dict[str, object]) -> int | None:
    """Return fee and provider's bill, rounded up; None without the bill, as the fee is only a part."""
    fee = _amount(usage.get("cost"))
    details = usage.get("cost_details")
    bill = _amount(details.get("upstream_inference_cost")) if isinstance(details, dict) else None
    return None if fee is None or bill is None or _nano(fee) is None or _nano(bill) is None else _nano(fee + bill)


def _amount(value: object) -> Decimal | None:
    if isinstance(value, Decimal):
        return value
    if isinstance(value, float):
        return Decimal(repr(value))
    return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _nano(value: object) -> int | None:
    """Return an amount in nano-USD, None if it is above the maximum."""
    try:
        if isinstance(value, float):
            return nano_from_double(value)
        amount = _amount(value)
        return None if amount is None else nano_from_usd(amount)
    except ValueError:
        return None


def _count(usage: dict[str, object], name: str, other_name: str = "") -> int | None:
    value = usage.get(name)
    if type(value) is int and 0 <= value < 2**53:
        return value
    return _count(usage, other_name) if other_name else None


def merged(earlier: Usage | None, later: Usage | None) -> Usage | None:
    """Return the later usage, plus the earlier one's members that it omits (Anthropic splits counts over events)."""
    if earlier is None or later is None:
        return later or earlier
    return Usage(
        cost_nano=earlier.cost_nano if later.cost_nano is None else later.cost_nano,
        # Cached tokens are often stated once, at the start: a later count without them is not a smaller prompt.
        prompt_tokens=max(later.prompt_tokens or 0, earlier.prompt_tokens or 0)
        if earlier.prompt_tokens is not None and later.prompt_tokens is not None
        else later.prompt_tokens or earlier.prompt_tokens,
        completion_tokens=earlier.completion_tokens if later.completion_tokens is None else later.completion_tokens,
        is_byok=earlier.is_byok or later.is_byok,
        cached_tokens=later.cached_tokens or earlier.cached_tokens,
        written_tokens=later.written_tokens or earlier.written_tokens,
    )


def find_errors(document: dict[str, object]) -> tuple[AnswerError, ...]:
    """Return the errors of one event or body: nested, bare or flat, or recognised by `type` only."""
    errors = [
        error
        for place in ERROR_PLACES
        if not place or place[0] in document
        for each in found(document, place)
        if isinstance(each, dict) and "error" in each and (error := _answer_error(each["error"], each)) is not None
    ]
    kind = document.get("type")
    if not errors and isinstance(kind, str) and kind in FAILURES:
        flat = _answer_error(document, {})
        return () if flat is None else (flat,)
    return tuple(errors)


def errors_in(data: bytes, document: dict[str, object]) -> tuple[AnswerError, ...]:
    """Return the errors of one event or body. `data`: its bytes; to search them takes less than to look everywhere."""
    if not data.partition(ERROR_MARK)[1]:
        kind = document.get("type")
        if kind is None or not isinstance(kind, str) or kind not in FAILURES:
            return ()
    return find_errors(document)


def _answer_error(error: object, place: dict[str, object]) -> AnswerError | None:
    if isinstance(error, str) and error:
        return AnswerError(None, error, None)
    if not isinstance(error, dict):
        return None
    listed = error.get("metadata")
    metadata = listed if isinstance(listed, dict) else {}
    code = error.get("code", error.get("http_status"))
    message = error.get("message")
    kinds = (metadata.get("error_type"), error.get("error_type"), error.get("type"), place.get("error_type"))
    return AnswerError(
        code=code if isinstance(code, int | str) and not isinstance(code, bool) else None,
        message=message if isinstance(message, str) else "",
        error_type=next((kind for kind in kinds if isinstance(kind, str) and kind not in FAILURES), None),
        metadata_keys=frozenset(metadata),
    )
