"""Relays headers in both directions, without hop-by-hop headers and the gateway's own. Results are cached by name."""

import re
from collections.abc import Callable

from aiohttp.hdrs import CONNECTION, CONTENT_TYPE
from multidict import CIMultiDictProxy

from gateway.call import EVERY_ANSWER, OWN_REQUEST_ID, REQUEST_ID
from gateway.errors import InvalidRequest
from gateway.ledger.outcomes import Admission
from gateway.memo import Memo
from gateway.money import usd_text
from gateway.openrouter.connection import header_of
from gateway.openrouter.refusals import holds_secret

# RFC 9110 §7.6.1, and headers that a proxy sets itself.
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
# The caller's headers that are relayed. Others may identify or locate the caller or its host, and are dropped.
_FORWARDED = frozenset(
    {
        "accept",
        "content-type",
        "http-referer",
        "idempotency-key",
        "referer",
        "user-agent",
        "x-app",
        "x-client-request-id",
        "x-session-id",
        "x-title",
    }
)
# Headers of OpenRouter, Anthropic and OpenAI, and those by which their SDKs identify themselves.
_FORWARDED_PREFIXES = ("anthropic-", "openai-", "x-anthropic-", "x-openai-", "x-openrouter-", "x-stainless-")
# A key of ours, a grant or a session token, anywhere in a value. The bounds keep the search linear.
_OURS = re.compile(r"(?:sk|pk|gr)_(?:live|test)_|eyJ[A-Za-z0-9_-]{1,400}\.[A-Za-z0-9_-]{1,8000}\.[A-Za-z0-9_-]")
# Relayed values are searched for keys on the event loop; real clients send one or two kilobytes.
_MOST_FORWARDED_CHARS = 64 * 1024
# Upstream's headers about its host or its CORS rules do not apply to the gateway.
_NOT_PASSED_ON = _HOP_BY_HOP | {
    "alt-svc",
    "anthropic-organization-id",
    "date",
    "nel",
    "openai-organization",
    "openai-project",
    "permissions-policy",
    "report-to",
    "server",
    "set-cookie",
    "strict-transport-security",
    "x-content-type-options",
}
# The prefix of generation ids, which are not searched: they differ in each answer and contain no key.
_OPENROUTERS_ID = "gen-"
# Prefixes of account ids and keys. Few values have one, and only those are searched further.
_MAY_NAME = re.compile(r"(?:acct|gr|gsk|hf|fw|org|pk|proj|rk|sk|team|user|xai)[-_]|AIza|AKIA|eyJ|[Ii][Dd]|team|user")
_OUR_PREFIX = "x-wattfare-"
# Each up to its value.
_ANSWERED_BY = "".join(f"{name}: {value}\r\n" for name, value in EVERY_ANSWER.items()) + f"{OWN_REQUEST_ID}: "
_THEIR_ID, _REMAINING = f"{REQUEST_ID}: ", f"{_OUR_PREFIX}remaining-usd: "
_NOT_PASSED_ON_PREFIXES = ("access-control-", _OUR_PREFIX)
# Size of the cache of header names; a caller that invents names only causes it to be refilled.
_NAMES = 4096


def forwarded(headers: CIMultiDictProxy[str]) -> list[str]:
    """Return the lines of the caller's headers to relay, byte for byte: the listed ones without a key in their value.

    Raises InvalidRequest if they are too large.
    """
    kept = [f"{name}: {value}\r\n" for name, value in headers.items() if _goes_up(name)]
    text = "".join(kept)
    if len(text) > _MOST_FORWARDED_CHARS:
        raise InvalidRequest("The headers for OpenRouter have more than 64 kB. Send less in them.", status=431)
    if "_" in text or "eyJ" in text:
        kept = [line for line in kept if _OURS.search(line) is None]
    if CONNECTION in headers:
        named = {name.strip().lower() for value in headers.getall(CONNECTION) for name in value.split(",")}
        kept = [line for line in kept if line.partition(":")[0].lower() not in named]
    if CONTENT_TYPE not in headers:
        kept.append("Content-Type: application/json\r\n")
    return kept


def passed_lines(lines: list[bytes]) -> str:
    """Return those of upstream's header lines to relay that name no key and no account.

    Raises ValueError for a value with a line break, which an HTTP parser never returns.
    """
    return "".join(map(_passed_line, lines))


def _is_relayed(name: str) -> bool:
    lowered = name.lower()
    if lowered in _HOP_BY_HOP or lowered.startswith(_OUR_PREFIX):
        return False
    return lowered in _FORWARDED or lowered.startswith(_FORWARDED_PREFIXES)


def own_lines(request_id: str, admission: Admission, header: Callable[[str], str | None]) -> str:
    """Return the gateway's own header lines: the request id, and what remained at the admission.

    `header`: returns upstream's first value of a header by its lower-case name.
    """
    lines = f"{_ANSWERED_BY}{request_id}\r\n"
    upstreams_id = header(REQUEST_ID)
    if upstreams_id is None or not _passed_line(f"{_THEIR_ID}{upstreams_id}".encode("utf-8", "surrogateescape")):
        lines += f"{_THEIR_ID}{request_id}\r\n"
    if admission.remaining_nano is not None:
        lines += f"{_REMAINING}{usd_text(admission.remaining_nano)}\r\n"
    if admission.uses_left is not None:
        lines += f"{_OUR_PREFIX}grant-remaining: {admission.uses_left}\r\n"
    if admission.max_tokens is not None:
        lines += f"{_OUR_PREFIX}max-tokens: {admission.max_tokens}\r\n"
    return lines


def _line_if_passed(received: bytes) -> str:
    """Return the line of a header to relay, else ''. Raises ValueError."""
    name, value = header_of(received)
    lowered = name.lower()
    if lowered in _NOT_PASSED_ON or lowered.startswith(_NOT_PASSED_ON_PREFIXES) or _names_account(value):
        return ""
    line = f"{name}: {value}\r\n"
    if line.count("\r") + line.count("\n") > 2:
        raise ValueError("a header holds a line break")
    return line


def _names_account(value: str) -> bool:
    is_suspect = _MAY_NAME.search(value) is not None and not value.startswith(_OPENROUTERS_ID)
    return is_suspect and holds_secret(value)


# Most headers repeat.
_goes_up = Memo(_is_relayed, _NAMES).__getitem__
_passed_line = Memo(_line_if_passed, _NAMES).__getitem__
