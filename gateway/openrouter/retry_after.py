"""Parses the time to wait from a refusal, in each known format.

Rule: an unreadable value counts as absent, and the result is at most an hour.
"""

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from math import ceil

from gateway.openrouter.dialects import value_at

MAX_RETRY_AFTER_SECONDS = 3600

# `30s`, `6m0s`, `120ms`: durations as written by OpenAI and Google.
_DURATION = re.compile(r"(?:\d{1,9}(?:\.\d{1,9})?(?:ms|h|m|s)){1,4}", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)", re.ASCII)
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
# Google's RetryInfo, in the refusal itself or, with escaped quotes, in the provider's message.
_RETRY_DELAY = re.compile(rb'retryDelay\\*"\s{0,8}:\s{0,8}\\*"?([0-9.hms]{1,32})')
# A reset is a timestamp or a duration: from here on (September 2001) a timestamp, in seconds or in milliseconds.
_LEAST_EPOCH_SECONDS = 1e9
_LEAST_EPOCH_MS = 1e12


def retry_after_seconds(
    headers: Mapping[str, str], document: Mapping[str, object], body: bytes, *, now_ms: int
) -> int | None:
    """Return the time to wait in whole seconds, 1 to 3600; None if none is stated.

    `headers`: the refusal's, names in any case; `document`: its parsed `body`. Searched in this order: Retry-After, the
    provider's quoted header, the body's fields, the reset headers.
    """
    sent = {name.lower(): value for name, value in headers.items()}
    listed = nested(document, "error", "metadata", "headers")
    inner = {name.lower(): value for name, value in listed.items()}
    waits = [_wait(place, now_ms) for place in (sent, inner)]
    waits.append(_seconds(nested(document, "error", "availability").get("retry_after"), now_ms))
    if (delay := _RETRY_DELAY.search(body)) is not None:
        waits.append(_seconds(delay[1].decode(), now_ms))
    waits += [_until_reset(place.get("x-ratelimit-reset"), now_ms) for place in (inner, sent)]
    stated = next((each for each in waits if each is not None), None)
    return None if stated is None else min(MAX_RETRY_AFTER_SECONDS, max(1, ceil(stated)))


def nested(document: Mapping[str, object], *path: str) -> Mapping[str, object]:
    """Return the object at a path, an empty one if there is none."""
    place = value_at(document, path)
    return place if isinstance(place, dict) else {}


def _wait(headers: Mapping[str, object], now_ms: int) -> float | None:
    in_ms = _number(headers.get("retry-after-ms"))
    return in_ms / 1000 if in_ms is not None else _seconds(headers.get("retry-after"), now_ms)


def _seconds(value: object, now_ms: int) -> float | None:
    """Parse a Retry-After: seconds, a duration, or an HTTP date (RFC 9110 §10.2.3)."""
    if (number := _number(value)) is not None:
        return number
    if not isinstance(value, str):
        return None
    if _DURATION.fullmatch(value.strip()):
        return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _PART.findall(value))
    try:
        moment = parsedate_to_datetime(value)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return aware.timestamp() - now_ms / 1000
    except (ValueError, OverflowError):
        return None


def _until_reset(value: object, now_ms: int) -> float | None:
    """Parse an X-RateLimit-Reset: a timestamp in milliseconds or seconds, or the time until then."""
    number = _number(value)
    if number is None or number < _LEAST_EPOCH_SECONDS:
        return _seconds(value, now_ms)
    left = number / (1000 if number >= _LEAST_EPOCH_MS else 1) - now_ms / 1000
    return left if left > 0 else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number < 1e15 else None
