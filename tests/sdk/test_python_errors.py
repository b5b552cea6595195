"""The Python SDK's typed errors, found in what other libraries raise."""

import httpx
import pytest

from wattfare import (
    WattfareBudgetExceededError,
    WattfareError,
    WattfareNotConnectedError,
    is_budget_exceeded,
    is_not_connected,
    to_wattfare_error,
)

SAID = {"code": "budget_exceeded", "message": "Spent.", "requestId": "req_1", "retryAfter": 5, "limit": "in_flight"}


class LibraryError(Exception):
    """What an API library raises: a status and a decoded body."""

    def __init__(self, body: object, status_code: int = 402) -> None:
        super().__init__("Error code: 402")
        self.body = body
        self.status_code = status_code


def raised_from(cause: Exception) -> Exception:
    try:
        raise RuntimeError("wrapped") from cause
    except RuntimeError as error:
        return error


def unread() -> httpx.HTTPStatusError:
    """An error whose response was not read: it has no text."""
    request = httpx.Request("GET", "http://gateway")
    response = httpx.Response(402, stream=httpx.ByteStream(b"{}"), request=request)
    return httpx.HTTPStatusError("402", request=request, response=response)


def answered() -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "http://gateway")
    response = httpx.Response(402, json={"error": SAID}, request=request)
    return httpx.HTTPStatusError("402", request=request, response=response)


@pytest.mark.parametrize(
    "wrapped",
    [
        LibraryError(SAID),
        LibraryError({"error": SAID}),
        LibraryError({"type": "error", "error": SAID}),
        raised_from(LibraryError(SAID)),
        ExceptionGroup("two", [ValueError("other"), LibraryError(SAID)]),
        answered(),
        {"error": SAID},
    ],
    ids=["openai", "decoded", "anthropic", "cause", "group", "httpx", "envelope"],
)
def test_it_is_found_in_what_libraries_raise(wrapped: object) -> None:
    """Kind, message, request id and how long to wait."""
    found = to_wattfare_error(wrapped)
    assert isinstance(found, WattfareBudgetExceededError)
    assert (found.message, found.request_id, found.retry_after) == ("Spent.", "req_1", 5)
    assert is_budget_exceeded(wrapped)
    assert not is_not_connected(wrapped)


@pytest.mark.parametrize(
    "foreign",
    [None, "text", ValueError("x"), LibraryError(None), LibraryError({"code": "insufficient_quota", "message": "x"}),
     unread(), {"error": {"code": 502, "message": "provider"}}],
    ids=["nothing", "text", "other", "no body", "openai's own", "unread", "openrouter's own"],
)  # fmt: skip
def test_what_is_not_ours_is_none(foreign: object) -> None:
    """Another API's error is left to its own library."""
    assert to_wattfare_error(foreign) is None


def test_a_refused_key_is_mended_by_connecting() -> None:
    """`is_not_connected` is true whenever a connect button helps."""
    assert is_not_connected({"error": {"code": "funding_invalid", "message": "x"}})
    assert is_not_connected(WattfareNotConnectedError("x"))


def test_an_error_can_be_passed_on() -> None:
    """The gateway's envelope, with all its members."""
    found = to_wattfare_error({"error": SAID})
    assert found is not None
    assert found.to_json() == {"error": SAID}
    assert WattfareError("x").to_json() == {"error": {"code": "unknown", "message": "x"}}
