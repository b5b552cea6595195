"""Where webhooks may go: the table of what is refused, and that the address that was checked is the one in use."""

import socket

import pytest

from gateway.payers.origins import OriginRefused
from gateway.webhooks.addresses import AddressRefused, is_public, register, socket_factory

PUBLIC = ["1.1.1.1", "8.8.8.8", "172.15.0.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1"]
# What each is: this host, private, shared by carriers, link-local with the clouds' metadata, Azure's, documentation,
# benchmarks, multicast, reserved, broadcast; of IPv6 unspecified, loopback, mapped, compatible, translated, Teredo,
# 6to4, documentation, unique local (AWS's metadata among them), site-local, link-local, multicast.
PRIVATE = [
    *("0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255"),
    *("192.168.1.1", "100.64.0.1", "100.100.100.200", "169.254.169.254", "169.254.170.2", "168.63.129.16"),
    *("192.0.0.192", "192.0.2.1", "198.51.100.1", "203.0.113.9", "198.18.0.1", "192.88.99.1"),
    *("224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::a00:1"),
    *("2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "fd00:ec2::254", "fc00::1", "fec0::1", "fe80::1"),
    *("fe80::1%eth0", "2606:4700::1111%eth0", "ff02::1", "100::1", "4000::1", "", "localhost", "127.1", "0x7f000001"),
]


def info(address: str) -> tuple[object, ...]:
    """What getaddrinfo gives of an address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, 443))


def test_only_public_addresses_are_connected_to() -> None:
    """A socket is made for each public one, and for no other."""
    assert [address for address in PUBLIC if not is_public(address)] == []
    assert [address for address in PRIVATE if is_public(address)] == []
    make = socket_factory(loopback=False)
    for address in PUBLIC:
        make(info(address)).close()
    for address in PRIVATE[:-4]:
        with pytest.raises(AddressRefused):
            make(info(address))
    with pytest.raises(AddressRefused):
        make((socket.AF_UNIX, socket.SOCK_STREAM, 0, "", "/run/docker.sock"))


def test_loopback_is_let_through_only_where_it_is_asked_for() -> None:
    """In development; and nothing else that is private with it."""
    make = socket_factory(loopback=True)
    for address in ("127.0.0.1", "::1"):
        make(info(address)).close()
    for address in ("10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "fd00::1"):
        with pytest.raises(AddressRefused):
            make(info(address))


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("https://Hooks.Example", "https://hooks.example/"),
        ("https://hooks.example:443/a/B?c=%20d", "https://hooks.example/a/B?c=%20d"),
        ("https://hooks.example:8443/a", "https://hooks.example:8443/a"),
        ("https://hooks.example?c=d", "https://hooks.example?c=d"),
        ("https://8.8.8.8/a", "https://8.8.8.8/a"),
    ],
)
def test_a_webhook_url_has_one_form(text: str, stored: str) -> None:
    """Its host as browsers write it; the rest as it was given."""
    assert register(text, development=False, loopback=False) == stored


@pytest.mark.parametrize(
    "text",
    [
        *("", "hooks.example", "ftp://hooks.example/", "http://hooks.example/", "https:///a", "https://a b.example/"),
        *("https://user:word@hooks.example/", "https://hooks.example/#a", "https://hooks.example\\@evil.example/"),
        *(
            "https://hooks.example:25/",
            "https://hooks.example:80/",
            "https://hooks.example:99999/",
            "https://ü.example/ü",
        ),
        *("https://127.0.0.1/", "https://[::1]/", "https://169.254.169.254/latest", "https://[::ffff:10.0.0.1]/"),
        *("https://127.1/", "https://0x7f.1/", "https://2130706433/", "https://017700000001./"),
        *("https://*.example/", f"https://hooks.example/{'a' * 2000}", "https://hooks.example/\n"[:-1] + "\x7f"),
    ],
)
def test_an_invalid_webhook_url_is_refused(text: str) -> None:
    """The message states what to write instead."""
    with pytest.raises(OriginRefused):
        register(text, development=False, loopback=False)


def test_development_takes_plain_http_and_loopback_where_it_is_allowed() -> None:
    """A server on the developer's machine, on any port."""
    assert register("http://127.0.0.1:80/a", development=True, loopback=True) == "http://127.0.0.1/a"
    assert register("http://hooks.example:81/a", development=True, loopback=False) == "http://hooks.example:81/a"
    with pytest.raises(OriginRefused):
        register("http://127.0.0.1:3000/a", development=True, loopback=False)
