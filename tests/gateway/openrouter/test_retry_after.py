"""The time to wait, in each provider's format."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.openrouter.retry_after import MAX_RETRY_AFTER_SECONDS, nested, retry_after_seconds

NOW_MS = 1_759_845_400_000


def wait(document: object = None, **headers: str) -> int | None:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    body = json.dumps(document or {}).encode()
    return retry_after_seconds(sent, json.loads(body), body, now_ms=NOW_MS)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7), ("0", 1), ("2.2", 3), ("99999999", 3600), ("Tue, 07 Oct 2025 13:57:10 GMT", 30), ("soon", None),
     ("-3", None), ("30s", 30), ("1.5s", 2), ("120ms", 1), ("6m0s", 360), ("2h", 3600), ("s", None), ("3x", None),
     ("", None), ("nan", None), ("30s 4", None), ("9" * 400 + "s", None)],
)  # fmt: skip
def test_retry_after_is_seconds_a_duration_or_a_date(value: str, seconds: int | None) -> None:
    """In the response's own headers, and in the provider's headers that the body quotes."""
    assert wait(Retry_After=value) == seconds
    assert wait({"error": {"metadata": {"headers": {"Retry-After": value}}}}) == seconds


def test_retry_after_in_milliseconds_is_the_finer_word() -> None:
    """OpenAI sends both."""
    assert wait(Retry_After_Ms="11500", Retry_After="60") == 12
    assert wait(retry_after_ms="1") == 1
    assert wait(Retry_After_Ms="soon", Retry_After="60") == 60


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(str(NOW_MS + 20_000), 20), (str(NOW_MS // 1000 + 20), 20), ("20", 20), ("20s", 20), (str(NOW_MS - 1), None),
     (str(NOW_MS // 1000 - 1), None), ("soon", None)],
)  # fmt: skip
def test_a_reset_is_a_moment_or_a_distance(value: str, seconds: int | None) -> None:
    """A timestamp in milliseconds or seconds, or a duration; a past timestamp is ignored."""
    assert wait(X_RateLimit_Reset=value) == seconds
    assert wait({"error": {"metadata": {"headers": {"X-RateLimit-Reset": value}}}}) == seconds
    assert wait(X_RateLimit_Reset=value, Retry_After="3") == 3


@pytest.mark.parametrize(("value", "seconds"), [("12s", 12), ("0.5s", 1), ("1m2s", 62), ("", None), ("...", None)])
def test_a_delay_in_the_body_counts_where_no_header_says_more(value: str, seconds: int | None) -> None:
    """Google's RetryInfo, in the refusal or in the provider's message within it."""
    told = {"error": {"details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": value}]}}
    wrapped = {"error": {"code": 429, "metadata": {"raw": json.dumps(told, indent=2)}}}
    for document in (told, wrapped, {"error": {"metadata": {"raw": json.dumps(wrapped)}}}):
        assert wait(document) == seconds
        assert wait(document, Retry_After="3") == 3


def test_an_availability_may_say_it_too() -> None:
    """As a number, beside the error's code."""
    assert wait({"error": {"availability": {"retry_after": 9}}}) == 9
    assert nested({"error": [1]}, "error", "availability") == {}


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30), st.sampled_from(["Retry-After", "Retry-After-Ms", "X-RateLimit-Reset"]), st.binary())
def test_any_words_are_read_or_absent(value: str, name: str, body: bytes) -> None:
    """Never an exception, never more than an hour."""
    seconds = retry_after_seconds({name: value}, {}, body, now_ms=NOW_MS)
    assert seconds is None or 1 <= seconds <= MAX_RETRY_AFTER_SECONDS
