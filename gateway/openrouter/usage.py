"""What one JSON object of an answer says: generation id, usage, errors.

Never raises: what cannot be read is absent, and absent cost is not zero. An id that could not be stored or asked for
is no id, an absurd cost is no cost.
"""

import json
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from gateway.money import nano_from_usd

_ID = re.compile(r"[!-~]{1,128}")


@dataclass(frozen=True, slots=True)
class Usage:
    """What the answer says it cost. `cost_nano` is rounded up; for BYOK it is fee plus the provider's own bill.

    None means not stated, which is not zero.
    """

    cost_nano: int | None
    prompt_tokens: int | None
    completion_tokens: int | None
    is_byok: bool


@dataclass(frozen=True, slots=True)
class AnswerError:
    """One error object as upstream wrote it; `code` is a number, a name or missing."""

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
    """Return the JSON object in `data`, or an empty one for anything else."""
    try:
        document = _DECODER.decode(data.decode())
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def parsed_prefix(data: bytes) -> dict[str, object]:
    """Return the JSON object that `data` begins with, or an empty one."""
    try:
        document, _ = _DECODER.raw_decode(data.decode(errors="replace"))
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _within(document: dict[str, object]) -> tuple[dict[str, object], ...]:
    """Return the places a field may stand: on top, in `response` (/responses), in `message` (/messages)."""
    nested = (document.get("response"), document.get("message"))
    return (document, *(each for each in nested if isinstance(each, dict)))


def fit_id(found: object) -> str | None:
    """Return a generation id if it is fit to be stored and asked for."""
    return found if isinstance(found, str) and _ID.fullmatch(found) else None


def find_id(document: dict[str, object]) -> str | None:
    """Return the generation id of one event or body, if it is fit."""
    return next((found for place in _within(document) if (found := fit_id(place.get("id")))), None)


def find_usage(document: dict[str, object]) -> Usage | None:
    """Return the non-null usage of one event or body."""
    for place in _within(document):
        if isinstance(found := place.get("usage"), dict):
            return read_usage(found)
    return None


def read_usage(usage: dict[str, object]) -> Usage | None:
    """Read one usage object, in chat's names or in those of /responses and /messages."""
    if not usage:
        return None
    is_byok = usage.get("is_byok") is True
    return Usage(
        cost_nano=_cost_nano(usage, is_byok=is_byok),
        prompt_tokens=_count(usage, "prompt_tokens", "input_tokens"),
        completion_tokens=_count(usage, "completion_tokens", "output_tokens"),
        is_byok=is_byok,
    )


def _cost_nano(usage: dict[str, object], *, is_byok: bool) -> int | None:
    """Return the charge, rounded up. For BYOK the fee alone is not the cost: without the provider's bill it is None."""
    fee = _amount(usage.get("cost"))
    if not is_byok:
        return _nano(fee)
    details = usage.get("cost_details")
    bill = _amount(details.get("upstream_inference_cost")) if isinstance(details, dict) else None
    return None if fee is None or bill is None or _nano(fee) is None or _nano(bill) is None else _nano(fee + bill)


def _amount(value: object) -> Decimal | None:
    if isinstance(value, Decimal):
        return value
    return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _nano(amount: Decimal | None) -> int | None:
    """Return an amount that money can hold, else None: an absurd cost is no cost."""
    if amount is None:
        return None
    try:
        return nano_from_usd(amount)
    except ValueError:
        return None


def _count(usage: dict[str, object], *names: str) -> int | None:
    for name in names:
        value = usage.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53:
            return value
    return None


def merged(earlier: Usage | None, later: Usage | None) -> Usage | None:
    """Return what the last usage says; what it leaves out (Anthropic splits its counts over two events) stays."""
    if earlier is None or later is None:
        return later or earlier
    return Usage(
        cost_nano=earlier.cost_nano if later.cost_nano is None else later.cost_nano,
        prompt_tokens=later.prompt_tokens or earlier.prompt_tokens,
        completion_tokens=earlier.completion_tokens if later.completion_tokens is None else later.completion_tokens,
        is_byok=earlier.is_byok or later.is_byok,
    )


def find_errors(document: dict[str, object]) -> tuple[AnswerError, ...]:
    """Return the errors of one event or body: on top, in `response`, in each choice."""
    choices = document.get("choices")
    places = list(_within(document))
    if isinstance(choices, list):
        places += [each for each in choices if isinstance(each, dict)]
    found = (_answer_error(place) for place in places)
    return tuple(each for each in found if each is not None)


def _answer_error(place: dict[str, object]) -> AnswerError | None:
    error = place.get("error")
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
        error_type=next((kind for kind in kinds if isinstance(kind, str)), None),
        metadata_keys=frozenset(metadata),
    )
