"""Return URLs: what may be registered, and what is the same as what was registered."""

import pytest

from gateway.payers.origins import OriginRefused
from gateway.payers.return_urls import MOST_CHARS, allows, register, split

REGISTERED = frozenset({"https://acme.example/app?tab=1", "https://acme.example/any?*", "https://acme.example/"})


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("HTTPS://Acme.Example:443/App", "https://acme.example/App"),
        ("https://acme.example", "https://acme.example/"),
        (" https://acme.example/app?tab=1 ", "https://acme.example/app?tab=1"),
        ("https://acme.example/app?*", "https://acme.example/app?*"),
        ("https://acme.example?*", "https://acme.example/?*"),
        ("http://localhost:3000/back?*", "http://localhost:3000/back?*"),
    ],
)
def test_a_return_url_is_stored_as_browsers_write_it(text: str, stored: str) -> None:
    """Scheme and host in small letters, no default port, a path; the rest as it was given."""
    assert register(text, loopback=True) == stored


@pytest.mark.parametrize(
    "text",
    [
        "",
        "acme.example/app",
        "http://acme.example/app",
        "https://user@acme.example/app",
        "https://*.acme.example/app",
        "https://acme.example/*",
        "https://acme.example/app?a=1?*",
        "https://acme.example/app?a=*",
        "https://acme.example/app#part",
        "https://acme.example/a b",
        "https://acme.example\\app",
        "https://10.0.0.1/app",
        "javascript:alert(1)",
        "https://acme.example/" + "x" * MOST_CHARS,
    ],
)
def test_what_is_more_or_less_than_a_return_url_is_refused(text: str) -> None:
    """With the reason."""
    with pytest.raises(OriginRefused, match=r"[a-z]"):
        register(text, loopback=False)


@pytest.mark.parametrize("url", ["https://acme.example/", "https://acme.example/app?tab=1", "https://acme.example/any"])
def test_a_registered_address_is_returned_to(url: str) -> None:
    """Whole; where any query is taken, without one too."""
    assert allows(REGISTERED, url, "live")


def test_any_query_is_taken_where_it_says_so() -> None:
    """And only there."""
    assert allows(REGISTERED, "https://acme.example/any?x=?&y=/..", "live")
    assert not allows(REGISTERED, "https://acme.example/?x=1", "live")


@pytest.mark.parametrize(
    "url",
    [
        "https://acme.example",
        "https://acme.example/app",
        "https://acme.example/app?tab=2",
        "https://acme.example/app?tab=1&more",
        "https://acme.example/app/?tab=1",
        "https://acme.example/any/../out?to=https://evil.example",
        "https://acme.example/any;x?*",
        "https://acme.example:444/",
        "http://acme.example/",
        "https://ACME.example/",
        "https://acme.example@evil.example/",
        "https://[acme.example]/",
        "http://localhost/",
        "",
    ],
)
def test_any_other_address_is_not(url: str) -> None:
    """By a path, a query, a port, a letter."""
    assert not allows(REGISTERED, url, "live")


def test_test_keys_return_to_any_loopback_address() -> None:
    """And to no other that was not registered."""
    assert allows(frozenset(), "http://127.0.0.1:5173/x?y=1", "test")
    assert not allows(frozenset(), "https://acme.example/", "test")


def test_an_address_has_two_parts() -> None:
    """The origin as browsers report it, and the rest."""
    assert split("http://[::1]:80/a?b") == ("http://[::1]", "/a?b")
    assert split("https://[app.example]/") == ("", "")
