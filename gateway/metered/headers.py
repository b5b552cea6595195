"""Which headers go on, in both directions: made once for each kind, and never one of ours or of the hop."""

from collections.abc import Iterable
from functools import lru_cache

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
    named = {name.strip().lower() for value in headers.getall("Connection", ()) for name in value.split(",")}
    kept = [each for each in headers.items() if _goes_up(each[0]) and (not named or each[0].lower() not in named)]
    if "Content-Type" not in headers:
        kept.append(("Content-Type", "application/json"))
    return kept


def passed_on(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return upstream's headers that may go to the caller."""
    return [each for each in headers if _goes_down(each[0])]


@lru_cache(_NAMES)
def _goes_up(name: str) -> bool:
    lowered = name.lower()
    return lowered not in _NOT_FORWARDED and not lowered.startswith(_OUR_PREFIX)


@lru_cache(_NAMES)
def _goes_down(name: str) -> bool:
    lowered = name.lower()
    return lowered not in _NOT_PASSED_ON and not lowered.startswith(_NOT_PASSED_ON_PREFIXES)
