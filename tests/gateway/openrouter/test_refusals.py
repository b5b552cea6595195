"""OpenRouter's refusals are mapped to the contract's errors, without keys and account data."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import BudgetExceeded, FundingInvalid, InvalidRequest, RateLimited, UpstreamError, WattfareError
from gateway.openrouter.refusals import MAX_MESSAGE_CHARS, clean_message, concerns_funding, refusal
from gateway.openrouter.usage import AnswerError

NOW_MS = 1_759_845_400_000


def refused(status: int, message: str = "No.", metadata: object = None, **headers: str) -> WattfareError:
    error = {"code": status, "message": message, **({"metadata": metadata} if metadata else {})}
    body = json.dumps({"error": error, "user_id": "user_2yOPcMpKoQhcd4bVgSMlELRaIah"}).encode()
    return refusal(status, {name.replace("_", "-"): value for name, value in headers.items()}, body, now_ms=NOW_MS)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "Missing Authentication header"),
        (401, "No cookie auth credentials found"),
        (401, "User not found."),
        (
            402,
            "This request requires more credits, or fewer max_tokens. You requested 9 tokens, but can only afford 0.",
        ),
        (402, "can only afford -3"),
        (402, "Insufficient credits. Add more using https://openrouter.ai/credits"),
        (403, "Key limit exceeded (total limit). Manage it using https://openrouter.ai/settings/keys"),
        (403, "Key limit exceeded (daily limit). Manage it using https://openrouter.ai/settings/keys"),
        (403, "Key limit exceeded (monthly limit). Manage it using https://openrouter.ai/settings/keys"),
        (403, "Workspace budget exceeded"),
        (403, "This API key is disabled"),
        (403, "API key has expired"),
        (403, "Only management keys can perform this operation"),
        (403, "Your account has been suspended"),
    ],
)
def test_a_refused_key_or_credit_is_funding_invalid(status: int, message: str) -> None:
    """401, 402 and the 403s about the key mean that the payer must act."""
    error = refused(status, message)

    assert isinstance(error, FundingInvalid)
    assert error.status == 402
    assert message[:40] in error.message


TOO_DEAR = (
    "This request requires more credits, or fewer max_tokens. You requested up to 65536 tokens, can only afford 1234.",
    "You can only afford 12 tokens",
    "Prompt tokens limit exceeded: 24350 > 4000. To increase, visit https://openrouter.ai/settings/credits",
)


@pytest.mark.parametrize("message", TOO_DEAR)
def test_a_request_that_is_too_dear_is_refused_alone(message: str) -> None:
    """The connection is not marked: a smaller request fits, and the error suggests how."""
    error = refused(402, message)

    assert isinstance(error, BudgetExceeded)
    assert (error.status, error.fields["limit"], error.headers) == (402, "credit", {})
    assert "smaller max_tokens" in error.message
    assert message[:60] in error.message
    for code in (402, "402", "insufficient_credits", None):
        assert not concerns_funding(AnswerError(code, message, "payment_required"))


@pytest.mark.parametrize(
    ("message", "metadata"),
    [
        (
            "Your chosen model requires moderation and your input was flagged",
            {"reasons": ["hate"], "flagged_input": "x"},
        ),
        ("Request blocked: API key limit pattern found", {"patterns": ["key"]}),
        ("This model is not available in your region", None),
        ("Blocked by guardrail", {"error_type": "content_policy_violation"}),
        ("Forbidden", None),
    ],
)
def test_another_403_is_the_requests_fault(message: str, metadata: object) -> None:
    """Moderation, guardrails and regions leave the payer's connection alone."""
    error = refused(403, message, metadata)

    assert isinstance(error, InvalidRequest)
    assert (error.status, error.message) == (403, message)


@pytest.mark.parametrize("status", [400, 404, 409, 410, 413, 415, 422, 451])
def test_other_4xx_keep_status_and_message(status: int) -> None:
    """They are between the caller and OpenRouter."""
    error = refused(status, "invalid/nonexistent-model is not a valid model ID")

    assert isinstance(error, InvalidRequest)
    assert (error.status, error.message) == (status, "invalid/nonexistent-model is not a valid model ID")


@pytest.mark.parametrize(
    ("status", "ours"), [(408, 504), (500, 502), (502, 502), (503, 502), (504, 504), (524, 504), (529, 502), (302, 502)]
)
def test_a_failed_provider_is_502_and_a_slow_one_504(status: int, ours: int) -> None:
    """Both are worth another try."""
    error = refused(status, "Operation timed out.")

    assert isinstance(error, UpstreamError)
    assert (error.status, error.message) == (ours, "Operation timed out.")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7), ("0", 1), ("2.2", 3), ("99999999", 3600), ("Tue, 07 Oct 2025 13:57:10 GMT", 30), ("soon", 5), ("-3", 5)],
)
def test_a_rate_limit_keeps_its_retry_after(value: str, seconds: int) -> None:
    """Seconds or an HTTP date, within an hour; five seconds when it cannot be read."""
    error = refused(429, Retry_After=value)

    assert isinstance(error, RateLimited)
    assert error.headers == {"Retry-After": str(seconds)}


def test_a_rate_limit_is_read_from_the_metadata_too() -> None:
    """The free-model limit names the millisecond at which it is reset."""
    reset = {"headers": {"X-RateLimit-Reset": "1759845420000", "X-RateLimit-Remaining": "0"}}

    assert refused(429, "Rate limit exceeded: free-models-per-min. ", reset).headers == {"Retry-After": "20"}
    assert refused(429).headers == {"Retry-After": "5"}


def test_a_provider_that_is_away_may_say_for_how_long() -> None:
    """Retry-After is passed on with a 503 as well."""
    assert refused(503, retry_after="9").headers == {"Retry-After": "9"}
    assert refused(503).headers == {}


@pytest.mark.parametrize(
    "leak",
    [
        "user_2yOPcMpKoQhcd4bVgSMlELRaIah", "org_2yOPcMpKoQhcd4bVgSMlELRaIah", "sk-or-v1-0e6f" + "a" * 60,
        "sk-proj-abc_DEF-123", "user_sandboxpayer0001",
    ],
)  # fmt: skip
def test_account_ids_and_keys_are_removed(leak: str) -> None:
    """The payer is unknown to the app."""
    said = refused(400, f"Key {leak} of account ({leak}) failed").message

    assert leak not in said
    assert said == "Key [removed] of account ([removed]) failed"


METADATA = {
    "raw": '{"error":{"message":"temperature is out of range","type":"invalid_request_error"}}',
    "provider_name": "Acme",
    "error_type": "invalid_request",
}


@pytest.mark.parametrize("status", [400, 404, 413, 422, 429, 502, 504])
def test_what_a_refusal_says_beside_its_message_is_kept(status: int) -> None:
    """The provider's own message is kept, since clients look for it."""
    assert refused(status, "Provider returned error", METADATA).fields["metadata"] == METADATA
    assert "metadata" not in refused(status).fields


def test_metadata_names_no_key_and_no_account() -> None:
    """Removed from texts, from JSON within texts (where escapes may hide a key), from member names, and by name."""
    key, account = "sk-or-v1-0e6f" + "a" * 60, "user_2yOPcMpKoQhcd4bVgSMlELRaIah"
    hidden = json.dumps({"user_id": "ada", "message": f"line\n{account}", "key": "s\u006b-or-v1-0123456789"})
    metadata = {
        "raw": f"\n{hidden}".replace("sk-", "\\u0073k-"), "inner": [{account: [key]}], "user_id": 7, "api_key": "ada",
        "provider_name": "Acme", "flagged_input": "Hi\nthere", "retries": 2, "huge": 10**30, "half": "\ud800",
    }  # fmt: skip
    kept = refused(400, "No.", metadata).fields["metadata"]

    assert isinstance(kept, dict)
    assert json.loads(kept["raw"]) == {"message": "line\n[removed]", "key": "[removed]"}
    assert kept["inner"] == [{"[removed]": ["[removed]"]}]
    assert (kept["provider_name"], kept["flagged_input"], kept["retries"]) == ("Acme", "Hi\nthere", 2)
    assert (kept["huge"], kept["half"]) == (None, " ")
    assert not {"user_id", "api_key"} & set(kept)


def test_metadata_is_bounded() -> None:
    """A provider's page is cut, what is too deep or too wide is left out."""
    raw = refused(400, "No.", {"raw": "x" * 100_000}).fields["metadata"]
    assert isinstance(raw, dict)
    assert len(raw["raw"]) == 8192
    deep: object = 7
    for _ in range(100):
        deep = [deep]
    assert "7" not in str(refused(400, "No.", {"deep": deep}).fields["metadata"])
    assert "metadata" not in refused(400, "No.", {"wide": ["x" * 100] * 1000}).fields


def test_a_refused_key_says_nothing_beside_its_message() -> None:
    """Details of the payer's account are not shown to the app."""
    assert refused(402, "Insufficient credits", METADATA).fields == {}


def test_ordinary_words_stay() -> None:
    """A field called user_location is no account."""
    assert (
        clean_message("Invalid user_location and org_name, ask-or-tell")
        == "Invalid user_location and org_name, ask-or-tell"
    )


def test_a_message_is_one_line_of_at_most_500_characters() -> None:
    """Control characters and half surrogates cannot reach a log or a header."""
    said = clean_message("a\r\nb\x00c\ud800" + "x" * 1000)

    assert said.startswith("a b c xxx")
    assert len(said) == MAX_MESSAGE_CHARS
    said.encode()


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>502 Bad Gateway user_2yOPcMpKoQhcd4bVgSMl</html>", b"\xff", b"[]", b"null", b'{"error":7}',
     b'{"error":{"message":7,"metadata":7}}', b'{"error":{"metadata":{"headers":[1]}}}', b"[" * 100_000],
)  # fmt: skip
@pytest.mark.parametrize("status", [400, 401, 403, 429, 502, 504])
def test_garbage_gets_a_message_of_ours(status: int, body: bytes) -> None:
    """Nothing of a body that is not OpenRouter's is repeated."""
    error = refusal(status, {}, body, now_ms=NOW_MS)

    assert len(error.message) > 10
    assert "user_" not in error.message
    assert "<" not in error.message


@settings(max_examples=200, deadline=None)
@given(
    status=st.integers(min_value=300, max_value=599),
    body=st.binary(max_size=80),
    headers=st.dictionaries(st.sampled_from(["Retry-After", "retry-after", "X-RateLimit-Reset"]), st.text(max_size=30)),
)
def test_any_refusal_is_one_of_ours(status: int, body: bytes, headers: dict[str, str]) -> None:
    """Any upstream answer is mapped to an error with a valid status."""
    assert 400 <= refusal(status, headers, body, now_ms=NOW_MS).status < 600


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (AnswerError(402, "", None), True), (AnswerError("402", "", None), True), (AnswerError("401", "", None), True),
        (AnswerError(403, "Key limit exceeded (total limit).", None), True), (AnswerError(403, "flagged", None), False),
        (AnswerError(None, "", "payment_required"), True), (AnswerError("payment_required", "", None), True),
        (AnswerError("insufficient_quota", "", None), True), (AnswerError(None, "", "authentication_error"), True),
        (AnswerError(502, "", None), False), (AnswerError("server_error", "", "server"), False),
        (AnswerError(None, "Key limit exceeded", None), False), (AnswerError("4²2", "", None), False),
        (AnswerError(429, "", "rate_limit_exceeded"), False),
        (AnswerError(403, "Key limit", None, frozenset({"reasons"})), False),
    ],
)  # fmt: skip
def test_an_error_inside_a_200_may_concern_the_funding_too(error: AnswerError, *, ours: bool) -> None:
    """Its code is a number, a numeric string, a name or absent."""
    assert concerns_funding(error) is ours


@pytest.mark.parametrize(
    "raw",
    [
        r'{"error":{"message":"bad key:\nsk-or-v1-abcdef0123","x":"cut of',
        r'data: {"error":{"message":"bad key:\nsk-or-v1-abcdef0123"}}',
        r'"{\"message\":\"sk-or-v1\\u002dabcdef0123\"}"',
    ],
)
def test_a_key_in_words_that_are_not_whole_json_is_removed(raw: str) -> None:
    """An escape in front of it is no letter of it."""
    assert "abcdef0123" not in json.dumps(refused(400, "No.", {"raw": raw}).fields["metadata"])
