"""Which URLs an app may register for webhooks, and which addresses a webhook may connect to (against SSRF).

Rule: the checked address is the one that is connected to. It is checked when its socket is created, so no second DNS
answer, redirect or notation of an address bypasses the check.
"""

import ipaddress
import re
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from gateway.payers.origins import OriginRefused, normalize

MOST_CHARS = 2000  # what every server in use takes
_HTTPS = 443
# Lower ports belong to services other than web servers: mail, DNS, SSH.
_FIRST_PORT = 1024

# No top-level domain is a number: 127.1, 0x7f.1 and 2130706433 are notations of 127.0.0.1.
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*", re.IGNORECASE)

AddressInfo = tuple[Any, ...]
"""Family, type, protocol, canonical name and socket address, as getaddrinfo gives them."""

# Not a host of the public Internet (IANA's IPv4 special-purpose address registry), and 168.63.129.16, where an Azure
# machine finds its own settings.
_NOT_PUBLIC_V4 = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
    )
)
# Global unicast except the special ranges in it: Teredo, ORCHID, benchmarking, documentation, 6to4, AS112. This
# excludes IPv4 in IPv6 (mapped, translated, tunnelled), unique local and link-local addresses.
_PUBLIC_V6 = ipaddress.ip_network("2000::/3")
_NOT_PUBLIC_V6 = tuple(
    ipaddress.ip_network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)


class AddressRefused(OSError):
    """A webhook may not connect to this address."""


def is_public(address: str) -> bool:
    """Tell whether a text is the IP address of a host of the public Internet."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv4Address):
        return not any(found in network for network in _NOT_PUBLIC_V4)
    return found.scope_id is None and found in _PUBLIC_V6 and not any(found in network for network in _NOT_PUBLIC_V6)


def socket_factory(*, loopback: bool) -> Callable[[AddressInfo], socket.socket]:
    """Return a factory of sockets for public addresses; it raises AddressRefused for any other.

    `loopback`: allow loopback addresses too (development).
    """

    def make(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, place = info
        if family not in (socket.AF_INET, socket.AF_INET6):
            raise AddressRefused("a webhook goes to an Internet address")
        if not (is_public(place[0]) or (loopback and _is_loopback(place[0]))):
            raise AddressRefused("a webhook goes to a public address")
        return socket.socket(family, kind, protocol)

    return make


def register(text: str, *, development: bool, loopback: bool) -> str:
    """Return the webhook URL to store for an app. Raises OriginRefused.

    `development`: allow http and any port. `loopback`: allow loopback addresses.
    """
    address = text.strip()
    try:
        parts = urlsplit(address)
        origin = normalize(f"{parts.scheme}://{parts.netloc}")
        port = parts.port
    except ValueError as refused:
        raise OriginRefused(f"{text!r} is no webhook URL. Write the whole address: https://host/path.") from refused
    if len(address) > MOST_CHARS or not address.isascii() or not address.isprintable() or " " in address:
        raise OriginRefused(f"{text!r} is no webhook URL. Write it in plain ASCII, at most {MOST_CHARS} characters.")
    if "#" in address or "\\" in address:
        raise OriginRefused(f"{text!r} has a fragment or a backslash, which no server gets. Leave it out.")
    if parts.scheme != "https" and not development:
        raise OriginRefused(f"{text!r} is not encrypted. Write https://.")
    if not development and port not in (None, _HTTPS) and (port or 0) < _FIRST_PORT:
        raise OriginRefused(f"{text!r} has port {port}. Take {_HTTPS}, or one from {_FIRST_PORT} on.")
    host = parts.hostname or ""
    if not _is_address(host) and _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        raise OriginRefused(f"{text!r} is an address in another notation. Write a host name.")
    if _is_address(host) and not (is_public(host) or (loopback and _is_loopback(host))):
        hint = " WATTFARE_WEBHOOK_LOOPBACK=on allows this machine's own." if development else ""
        raise OriginRefused(f"{text!r} is a private address. Webhooks go to public ones.{hint}")
    return origin + (address[len(parts.scheme) + 3 + len(parts.netloc) :] or "/")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(address: str) -> bool:
    found = ipaddress.ip_address(address)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return found.is_loopback and mapped is None
