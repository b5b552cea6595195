"""Which headers go on, in both directions: made once for each kind, and never one of ours or of the hop."""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from multidict import CIMultiDictProxy

from gateway.call import REQUEST_ID
from gateway.errors import InvalidRequest
from gateway.ledger.outcomes import Admission
from gateway.money import usd_text
from gateway.openrouter.refusals import holds_secret

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
# What a caller may tell OpenRouter; all else, which may name or locate the caller or its host, stays here.
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
# OpenRouter's, Anthropic's and OpenAI's own headers, and what their SDKs tell of themselves.
_FORWARDED_PREFIXES = ("anthropic-", "openai-", "x-anthropic-", "x-openai-", "x-openrouter-", "x-stainless-")
# A key of ours, a grant or a session token, wherever in a value. The bounds keep a search linear.
_OURS = re.compile(r"(?:sk|pk|gr)_(?:live|test)_|eyJ[A-Za-z0-9_-]{1,400}\.[A-Za-z0-9_-]{1,8000}\.[A-Za-z0-9_-]")
# All that goes on is searched for keys, on the event loop; real clients send one or two kilobytes.
_MOST_FORWARDED_CHARS = 64 * 1024
# Upstream's words about its own host, or about who may call it from a browser, are not ours to repeat.
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
# A generation's id is another in each answer, and nothing but an id.
_OPENROUTERS_ID = "gen-"
# How everything begins that names an account or a key: nearly no value has it.
_MAY_NAME = re.compile(r"(?:acct|gr|gsk|hf|fw|org|pk|proj|rk|sk|team|user|xai)[-_]|AIza|AKIA|eyJ|[Ii][Dd]|team|user")
_OUR_PREFIX = "x-wattfare-"
_NOT_PASSED_ON_PREFIXES = ("access-control-", _OUR_PREFIX)
# Header names repeat from call to call; a caller who makes up new ones refills this.
_NAMES = 4096


def forwarded(headers: CIMultiDictProxy[str]) -> list[tuple[str, str]]:
    """Return the caller's headers that may go to OpenRouter, byte for byte: those of the list that hold no key.

    Raises InvalidRequest when they are too large.
    """
    listed = [each for each in headers.items() if _goes_up(each[0])]
    if sum([len(value) for _, value in listed]) > _MOST_FORWARDED_CHARS:
        raise InvalidRequest("The headers for OpenRouter have more than 64 kB. Send less in them.", status=431)
    kept = [each for each in listed if not _holds_key(each[1])]
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
    has_request_id: bool = False


def passed_on(headers: Iterable[tuple[str, str]]) -> Passed:
    """Return upstream's headers that may go to the caller: none that names a key or an account."""
    lines, has_length, is_event_stream, has_request_id = [], False, False, False
    for name, value in headers:
        lowered = _passed_name(name)
        if not lowered or (_names_account(value) and not value.startswith(_OPENROUTERS_ID)):
            continue
        lines.append(f"{name}: {value}\r\n")
        if lowered == "content-length":
            has_length = True
        elif lowered == "content-type":
            is_event_stream = value.lower().startswith("text/event-stream")
        elif lowered == REQUEST_ID:
            has_request_id = True
    return Passed(lines, has_length, is_event_stream, has_request_id)


@lru_cache(_NAMES)
def _goes_up(name: str) -> bool:
    lowered = name.lower()
    if lowered in _HOP_BY_HOP or lowered.startswith(_OUR_PREFIX):
        return False
    return lowered in _FORWARDED or lowered.startswith(_FORWARDED_PREFIXES)


def told_of(admission: Admission) -> list[str]:
    """Return the header lines, each with its end, that tell a caller what its admission left."""
    told = {
        "remaining-usd": None if admission.remaining_nano is None else usd_text(admission.remaining_nano),
        "grant-remaining": admission.uses_left,
        "max-tokens": admission.max_tokens,
    }
    return [f"x-wattfare-{name}: {value}\r\n" for name, value in told.items() if value is not None]


@lru_cache(_NAMES)
def _passed_name(name: str) -> str:
    """Return a header's name in lower case where it may go to the caller, else nothing."""
    lowered = name.lower()
    return "" if lowered in _NOT_PASSED_ON or lowered.startswith(_NOT_PASSED_ON_PREFIXES) else lowered


def _holds_key(value: str) -> bool:
    return ("_" in value or "eyJ" in value) and _OURS.search(value) is not None


@lru_cache(_NAMES)
def _names_account(value: str) -> bool:
    """Tell it of a value; nearly all of them repeat from answer to answer, and those that do not are short."""
    return _MAY_NAME.search(value) is not None and holds_secret(value)
