"""Which headers go on, in both directions: made once for each kind, and never one of ours or of the hop."""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from multidict import CIMultiDictProxy

# RFC 9110 §7.6.1, and what a proxy decides for itself.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# Ours to set, or nobody's business upstream: credentials, the caller's address, our own headers.
_NOT_FORWARDED = _HOP_BY_HOP | {
    "accept-encoding",
    "authorization",
    "cf-connecting-ip",
    "content-encoding",
    "content-length",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "origin",
    "true-client-ip",
    "via",
    "x-api-key",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
}
# Upstream's words about its own host, or about who may call it from a browser, are not ours to repeat.
_NOT_PASSED_ON = _HOP_BY_HOP | {
    "alt-svc",
    "date",
    "nel",
    "permissions-policy",
    "report-to",
    "server",
    "set-cookie",
    "strict-transport-security",
    "x-content-type-options",
}
_OUR_PREFIX = "x-wattfare-"
_NOT_PASSED_ON_PREFIXES = ("access-control-", _OUR_PREFIX)
# Header names repeat from call to call; a caller who makes up new ones refills this.
_NAMES = 4096


def forwarded(headers: CIMultiDictProxy[str]) -> list[tuple[str, str]]:
    """Return the caller's headers that may go to OpenRouter: none that names, authenticates or locates the caller."""
    kept = [each for each in headers.items() if _goes_up(each[0])]
    if "Connection" in headers:
        named = {name.strip().lower() for value in headers.getall("Connection") for name in value.split(",")}
        kept = [each for each in kept if each[0].lower() not in named]
    if "Content-Type" not in headers:
        kept.append(("Content-Type", "application/json"))
    return kept


class Passed(NamedTuple):
    """What of upstream's headers goes to the caller, each with its line's end; and what they say of the body."""

    lines: list[str]
    has_length: bool
    is_event_stream: bool


def passed_on(headers: Iterable[tuple[str, str]]) -> Passed:
    """Return upstream's headers that may go to the caller."""
    lines, has_length, is_event_stream = [], False, False
    for name, value in headers:
        lowered = _passed_name(name)
        if lowered:
            lines.append(f"{name}: {value}\r\n")
            if lowered == "content-length":
                has_length = True
            elif lowered == "content-type":
                is_event_stream = value.lower().startswith("text/event-stream")
    return Passed(lines, has_length, is_event_stream)


@lru_cache(_NAMES)
def _goes_up(name: str) -> bool:
    lowered = name.lower()
    return lowered not in _NOT_FORWARDED and not lowered.startswith(_OUR_PREFIX)


@lru_cache(_NAMES)
def _passed_name(name: str) -> str:
    """Return a header's name in lower case where it may go to the caller, else nothing."""
    lowered = name.lower()
    return "" if lowered in _NOT_PASSED_ON or lowered.startswith(_NOT_PASSED_ON_PREFIXES) else lowered
