"""Origins: one form, registered by exact name, compared for equality."""

import re

import pytest

from gateway.payers.origins import OriginRefused, is_loopback, normalize, register


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://App.Example.com", "https://app.example.com"),
        ("HTTPS://app.example.com:443/", "https://app.example.com"),
        ("http://app.example.com:80", "http://app.example.com"),
        ("https://app.example.com:8443", "https://app.example.com:8443"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://app.example.com.", "https://app.example.com."),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("http://[0:0:0:0:0:0:0:1]", "http://[::1]"),
        (" https://a.example ", "https://a.example"),
    ],
)
def test_an_origin_has_one_form(text: str, origin: str) -> None:
    """The one a browser writes; writing it again changes nothing."""
    assert normalize(text) == origin
    assert normalize(origin) == origin


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "app.example.com",
        "//app.example.com",
        "ftp://app.example.com",
        "javascript://app.example.com",
        "https://",
        "https://app.example.com/path",
        "https://app.example.com?x",
        "https://app.example.com#x",
        "https://user@app.example.com",
        "https://user:pw@app.example.com",
        "https://*.example.com",
        "https://app%2eexample.com",
        "https://app.example.com:99999",
        "https://app.example.com:x",
        "https://app..example.com",
        "https://app example.com",
        "https://[::1",
        "https://app.example.com\\@evil.example",
    ],
)
def test_what_is_more_or_less_than_an_origin_is_refused(text: str) -> None:
    """With OriginRefused, whatever the parser makes of it."""
    with pytest.raises(OriginRefused):
        normalize(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://app.example.com",
        "https://192.0.2.1",
        "https://[2001:db8::1]",
        "https://com",
        "https://co.uk",
        "https://github.io",
        "https://vercel.app",
        "http://localhost:3000",
    ],
)
def test_a_shared_or_plain_place_cannot_be_registered(text: str) -> None:
    """No plain http, no address, no public suffix, no loopback in production."""
    with pytest.raises(OriginRefused):
        register(text, loopback=False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("http://192.168.1.5:3000", "http://192.168.1.5:3000 is an address. Register a host name."),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443 is an address."),
        ("http://app.example.com:3000", "Register https://app.example.com:3000."),
    ],
)
def test_what_is_refused_is_named_with_its_port(text: str, said: str) -> None:
    """And nothing is advised that would be refused again."""
    with pytest.raises(OriginRefused, match=re.escape(said)):
        register(text, loopback=True)


def test_a_host_of_ones_own_can_be_registered() -> None:
    """Also below a public suffix; loopback in development."""
    assert register("https://me.github.io", loopback=False) == "https://me.github.io"
    assert register("https://app.example.co.uk:8443", loopback=False) == "https://app.example.co.uk:8443"
    assert register("http://localhost:3000", loopback=True) == "http://localhost:3000"


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://localhost", True),
        ("http://localhost:3000", True),
        ("https://app.localhost", True),
        ("http://127.0.0.1:1", True),
        ("http://127.9.9.9", True),
        ("http://[::1]", True),
        ("http://localhost.evil.example", False),
        ("http://notlocalhost", False),
        ("http://127.0.0.1.evil.example", False),
        ("http://192.168.0.1", False),
        ("null", False),
        ("", False),
        ("http://[", False),
    ],
)
def test_loopback_is_this_machine_alone(origin: str, *, expected: bool) -> None:
    """Names that only look like it are not."""
    assert is_loopback(origin) is expected
