"""Maps OpenRouter's refusals to the contract's errors, and removes secrets from their messages.

OpenRouter's messages contain the payer's account id (`user_…`, `org_…`) and sometimes a key; neither may be relayed.
"""

import contextlib
import json
import re
from collections.abc import Mapping

from gateway.errors import BudgetExceeded, FundingInvalid, InvalidRequest, RateLimited, UpstreamError, WattfareError
from gateway.openrouter.dialects import FUNDING_NAMES
from gateway.openrouter.retry_after import nested, retry_after_seconds
from gateway.openrouter.usage import AnswerError, find_errors

MAX_MESSAGE_CHARS = 500
DEFAULT_RETRY_AFTER_SECONDS = 5

_TIMEOUTS = frozenset({408, 504, 524})
# Error types about a key. With a provider's status they concern OpenRouter's own key; types about credit the payer's.
_KEY_TYPES = frozenset({"authentication", "authentication_error"})
_ABOUT_CREDIT = re.compile(
    r"insufficient credit|requires more credits|credit balance is too low|out of credits|exceeded your current quota",
    re.IGNORECASE,
)
# 402 has two meanings: the request is too expensive for the remaining credit, or no credit remains.
_ABOUT_THE_REQUEST = re.compile(
    r"fewer max_tokens|can only afford|prompt tokens limit exceeded",
    re.IGNORECASE,
)
_NOTHING_LEFT = re.compile(r"can only afford (?:0\b|-)", re.IGNORECASE)
# 403 has two meanings. Moderation, guardrails and regions have these metadata; the key's limits do not.
_CONTENT_METADATA = frozenset({"reasons", "flagged_input", "patterns", "model_slug"})
_CONTENT_TYPES = frozenset({"content_policy_violation", "moderation", "guardrail"})
# The names of status 403 inside a 200, for /responses and /messages.
_STATUS_OF_NAME = {"permission_denied": 403, "permission_error": 403}
_ABOUT_THE_KEY = re.compile(
    r"key limit"
    r"|key\b.{0,40}\b(?:disabled|expired|revoked|deleted|exceeded|blocked|invalid)"
    r"|(?:disabled|expired|revoked|invalid)\b.{0,20}\bkey"
    r"|management key|provisioning key"
    r"|budget\b.{0,40}\b(?:exceeded|reached|used up|exhausted)|exceeded\b.{0,40}\bbudget"
    r"|insufficient credits|(?:account|user)\b.{0,40}\b(?:disabled|suspended|banned|blocked)",
    re.IGNORECASE | re.DOTALL,
)
# Keys of OpenRouter and of providers (some masked with asterisks), our keys, and account ids: by their prefix, or
# by an opaque id next to a word for one.
_SECRETS = re.compile(
    # After an unparsed escape (as in `\n`), its letter hides the word boundary. The bounds keep the search linear.
    r"(?:\b|(?<=\\[bfnrt]))(?:"
    r"(?:sk|pk|gr|rk)[-_][A-Za-z0-9_*-]{4,}"
    r"|(?:AIza|gsk_|xai-|fw_|hf_|AKIA)[A-Za-z0-9_*-]{8,}"
    r"|eyJ[A-Za-z0-9_-]{1,400}\.[A-Za-z0-9_-]{1,8000}\.[A-Za-z0-9_-]*"
    r"|(?:user|org)_(?:(?=[A-Za-z0-9]{0,64}[0-9A-Z])[A-Za-z0-9]{4,}|[A-Za-z0-9]{20,})"
    r"|(?:org|user|team|proj|acct)-[A-Za-z0-9]{12,})"
    r"|(?<=\b(?:team|user)[ :=])[0-9a-f]{8}-[0-9a-f-]{27}"
    r"|(?<=\b(?:ID|id)[ :=])[0-9a-f]{8}-[0-9a-f-]{27}"
    r"|(?<=\b(?:ID|id): )[0-9a-f]{8}-[0-9a-f-]{27}"
)
# Members of a refusal's metadata that identify the payer, with any value.
_ACCOUNT_MEMBER = re.compile(
    r"(?:user|org|organization|account|team|workspace|key|creator)_?id|api_?key|key_?(?:hash|label|name)|authorization",
    re.IGNORECASE,
)
# A provider's message (`raw`) has some kilobytes; members nested deeper than in any recorded refusal are dropped.
_MOST_METADATA_CHARS = 8192
_MOST_METADATA_DEPTH = 8
_LARGEST_NUMBER = 2**63
_TOO_DEAR = (
    "This request is too dear for what is left of the user's OpenRouter credit. Name a smaller max_tokens, or shorten "
    "the prompt."
)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\ud800-\udfff]+")
_HALF_SURROGATES = re.compile(r"[\ud800-\udfff]")


def concerns_funding(error: AnswerError, status: int | None = None) -> bool:
    """Return whether OpenRouter refused the key or its credit, by HTTP `status` or by the code inside a 200."""
    code = status if status is not None else _status_of(error)
    if code not in (401, 403) and _is_about_the_request(error.message):
        return False
    if code in (401, 402):
        return True
    if code == 403:
        return _is_about_the_key(error)
    if error.code in FUNDING_NAMES or (error.error_type in FUNDING_NAMES and (code is None or _is_of_credit(error))):
        return True
    return code is None and _ABOUT_CREDIT.search(error.message) is not None


def _is_about_the_request(message: str) -> bool:
    return _ABOUT_THE_REQUEST.search(message) is not None and _NOTHING_LEFT.search(message) is None


def _is_of_credit(error: AnswerError) -> bool:
    return error.error_type not in _KEY_TYPES


def refusal(status: int, headers: Mapping[str, str], body: bytes, *, now_ms: int) -> WattfareError:
    """Return the error to raise for a non-2xx answer. `headers`: names in any case; `body` may be garbage."""
    document = _document(body)
    error = next(iter(find_errors(document)), AnswerError(None, "", None))
    message = clean_message(error.message)
    if concerns_funding(error, status):
        return FundingInvalid(_funding_message(message))
    refused = _refusal(status, message, retry_after_seconds(headers, document, body, now_ms=now_ms))
    if metadata := clean_metadata(nested(document, "error", "metadata")):
        refused.fields["metadata"] = metadata
    return refused


def _refusal(status: int, message: str, wait_seconds: int | None) -> WattfareError:
    """Return the error for a refusal that does not concern the payer's funding."""
    if status == 402:
        return BudgetExceeded(f"{_TOO_DEAR} OpenRouter says: {message}"[:MAX_MESSAGE_CHARS], limit="credit")
    if status == 429:
        seconds = wait_seconds or DEFAULT_RETRY_AFTER_SECONDS
        return RateLimited(message or "OpenRouter's rate limit is reached. Try later.", retry_after_seconds=seconds)
    if status in _TIMEOUTS:
        return UpstreamError(message or "The provider took too long. Try again.", status=504)
    if 400 <= status < 500:
        return InvalidRequest(message or f"OpenRouter refused the request with status {status}.", status=status)
    return UpstreamError(
        message or "The provider failed. Try again, or use another model.",
        status=502,
        headers={"Retry-After": str(wait_seconds)} if wait_seconds else None,
    )


def clean_message(message: str) -> str:
    """Return upstream's message without account ids and keys, on one line, at most MAX_MESSAGE_CHARS."""
    cleaned = _SECRETS.sub("[removed]", _UNPRINTABLE.sub(" ", message)).strip()
    return cleaned if len(cleaned) <= MAX_MESSAGE_CHARS else cleaned[: MAX_MESSAGE_CHARS - 1] + "…"


def clean_metadata(metadata: Mapping[str, object]) -> dict[str, object]:
    """Return a refusal's metadata without account ids and keys; empty if too large.

    Clients read `raw`, `provider_name` and `error_type`.
    """
    cleaned = _cleaned(metadata, _MOST_METADATA_DEPTH)
    if not isinstance(cleaned, dict) or len(json.dumps(cleaned)) > 4 * _MOST_METADATA_CHARS:
        return {}
    return cleaned


def _cleaned(value: object, depth: int) -> object:
    if isinstance(value, str):
        return _cleaned_text(value, depth)
    if isinstance(value, dict) and depth:
        kept = [(name, each) for name, each in value.items() if not _ACCOUNT_MEMBER.fullmatch(name)]
        return {_without_secrets(name): _cleaned(each, depth - 1) for name, each in kept}
    if isinstance(value, list) and depth:
        return [_cleaned(each, depth - 1) for each in value]
    if isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < _LARGEST_NUMBER):
        return value
    return None


def _cleaned_text(text: str, depth: int) -> str:
    """Return a text without secrets; JSON within a text is parsed first, since escapes may hide a secret."""
    document: object = None
    if text.lstrip()[:1] in ("{", "[", '"') and depth:
        with contextlib.suppress(ValueError, RecursionError):
            document = json.loads(text)
        if document is not None and (cleaned := _cleaned(document, depth - 1)) != document:
            text = json.dumps(cleaned, separators=(",", ":"))
    if document is None and "\\u00" in text:
        # An escaped letter in invalid JSON may be part of a key.
        return "[removed]"
    text = _without_secrets(text)
    return text if len(text) <= _MOST_METADATA_CHARS else text[: _MOST_METADATA_CHARS - 1] + "…"


def _without_secrets(text: str) -> str:
    return _SECRETS.sub("[removed]", _HALF_SURROGATES.sub(" ", text))


def holds_secret(value: str) -> bool:
    """Return whether a header's value contains a key or an account id."""
    return _SECRETS.search(value) is not None


def _funding_message(message: str) -> str:
    lead = "OpenRouter refuses this user's funding key or its credit. Ask them to top it up or to connect again."
    return f"{lead} It says: {message}"[:MAX_MESSAGE_CHARS] if message else lead


def _is_about_the_key(error: AnswerError) -> bool:
    if error.metadata_keys & _CONTENT_METADATA or error.error_type in _CONTENT_TYPES:
        return False
    return error.error_type in FUNDING_NAMES or _ABOUT_THE_KEY.search(error.message) is not None


def _status_of(error: AnswerError) -> int | None:
    """Return the status stated by an error inside a 200: its code, or the one that its name stands for."""
    code = error.code
    if isinstance(code, int):
        return code
    if isinstance(code, str) and len(code) == 3 and code.isascii() and code.isdigit():
        return int(code)
    return _STATUS_OF_NAME.get(code or "") or _STATUS_OF_NAME.get(error.error_type or "")


def _document(body: bytes) -> dict[str, object]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
