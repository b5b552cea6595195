"""Web origins: normalised, validated when registered, and compared for equality only.

Rule: the origin is the only proof of which app's page is calling, so there are no wildcards, no suffix matches, and the
port counts.
"""

import ipaddress
from functools import cache
from urllib.parse import urlsplit

import idna
from publicsuffixlist import PublicSuffixList

_DEFAULT_PORTS = {"http": 80, "https": 443}


class OriginRefused(ValueError):
    """The text cannot be registered as an origin; the message says what to change."""


def normalize(text: str) -> str:
    """Return `scheme://host[:port]` as a browser serialises an origin. Raises OriginRefused.

    A trailing dot is kept: browsers treat `app.example.` as a different origin too.
    """
    try:
        parts = urlsplit(text.strip())
    except ValueError:
        raise OriginRefused(f"{text!r} is not a URL. Write it as https://host or https://host:port.") from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise OriginRefused(f"{text!r} is not an origin. Write it as https://host or https://host:port.")
    if parts.username is not None or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise OriginRefused(f"{text!r} is more than an origin. Leave out user, path, query and fragment.")
    if "*" in parts.hostname or "%" in parts.hostname:
        raise OriginRefused(f"{text!r} is a pattern. Register each origin by its exact name.")
    try:
        port = parts.port
        host = _host(parts.hostname)
    except ValueError:
        raise OriginRefused(f"{text!r} has no valid host or port.") from None
    if port is None or port == _DEFAULT_PORTS[parts.scheme]:
        return f"{parts.scheme}://{host}"
    return f"{parts.scheme}://{host}:{port}"


def register(text: str, *, loopback: bool) -> str:
    """Return the origin to store for an app. Raises OriginRefused.

    Only https with public host names; loopback origins if `loopback` is true (development).
    """
    origin = normalize(text)
    if is_loopback(origin):
        if loopback:
            return origin
        raise OriginRefused(f"{origin} is a loopback origin. Test keys accept it without registering.")
    parts = urlsplit(origin)
    host = (parts.hostname or "").rstrip(".")
    if is_address(origin):
        raise OriginRefused(
            f"{origin} is an address. Register a host name. On this machine test keys take http://localhost, any port."
        )
    if parts.scheme != "https":
        raise OriginRefused(f"{origin} is not encrypted. Register https://{parts.netloc}.")
    if _suffixes().publicsuffix(host) == host:
        raise OriginRefused(f"{origin} is a public suffix that many owners share. Register your own host under it.")
    return origin


def is_loopback(origin: str) -> bool:
    """Return whether the host of `origin` (as a browser sends it) is localhost or a loopback address."""
    try:
        host = urlsplit(origin).hostname or ""
    except ValueError:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def is_address(origin: str) -> bool:
    """Return whether the host of an origin is an IP address, which no app can register."""
    try:
        host = urlsplit(origin).hostname or ""
    except ValueError:
        return False
    return _address(host) is not None


def _host(name: str) -> str:
    address = _address(name)
    if address is not None:
        return f"[{address.compressed}]" if address.version == 6 else address.compressed
    if name.isascii():
        dotless = name.removesuffix(".")
        if not all(
            0 < len(label) <= 63 and label.replace("-", "a").replace("_", "a").isalnum() for label in dotless.split(".")
        ):
            raise ValueError(name)
        return name.lower()
    return idna.encode(name, uts46=True).decode()


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()
