"""Return URLs of redirect mode: registered and compared as whole URLs.

Rule: matching the origin alone is not enough, because an open redirect on it would leak the approval's code. A query is
allowed only if the registered URL ends with `?*`.
"""

import re
from urllib.parse import urlsplit

from gateway.payers.origins import OriginRefused, is_loopback, normalize
from gateway.payers.origins import register as register_origin

MOST_CHARS = 2000  # accepted by every browser and server in use
_ANY_QUERY = "?*"
# Printable ASCII, as browsers serialise URLs, without the backslash, which some browsers treat as a slash.
_REST = re.compile(r"[!-\[\]-~]*")


def register(text: str, *, loopback: bool) -> str:
    """Return the return URL to store for an app, with a normalised origin. Raises OriginRefused.

    Loopback URLs are accepted if `loopback` is true, as for origins.
    """
    address, any_query = text.strip(), ""
    if address.endswith(_ANY_QUERY):
        address, any_query = address.removesuffix(_ANY_QUERY), _ANY_QUERY
    origin, rest = split(address)
    if not origin:
        raise OriginRefused(
            f"{text!r} is no return URL. Write the whole address, without a fragment: https://host/path, or "
            "https://host/path?* to take any query."
        )
    if "*" in rest or (any_query and "?" in rest):
        raise OriginRefused(f"{text!r} is a pattern. Only a `?*` at its end stands for something: any query.")
    return register_origin(origin, loopback=loopback) + rest + any_query


def split(url: str) -> tuple[str, str]:
    """Return the normalised origin of a URL and the rest from its path on; two empty strings if it is invalid."""
    try:
        parts = urlsplit(url)
        origin = normalize(f"{parts.scheme}://{parts.netloc}")
    except (OriginRefused, ValueError):
        return "", ""
    rest = url[len(parts.scheme) + 3 + len(parts.netloc) :] or "/"
    is_plain = len(url) <= MOST_CHARS and rest[0] in "/?" and _REST.fullmatch(rest) and "#" not in rest
    return (origin, rest if rest[0] == "/" else f"/{rest}") if is_plain else ("", "")


def allows(registered: frozenset[str], url: str, mode: str) -> bool:
    """Return whether redirect mode may return to `url`. Test mode also allows every loopback URL."""
    origin, rest = split(url)
    if not origin or origin + rest != url:
        return False
    return (
        url in registered
        or url.partition("?")[0] + _ANY_QUERY in registered
        or (mode == "test" and is_loopback(origin))
    )
