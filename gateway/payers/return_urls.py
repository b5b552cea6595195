"""Return URLs: where redirect mode may go back to. Registered whole, and compared whole.

Rule: an origin is not enough: any open redirect on it would hand the approval's code to whoever asks. A query is taken
only where its owner wrote `?*`.
"""

import re
from urllib.parse import urlsplit

from gateway.payers.origins import OriginRefused, is_loopback, normalize
from gateway.payers.origins import register as register_origin

MOST_CHARS = 2000  # what every browser and server in use takes
_ANY_QUERY = "?*"
# Printable ASCII, as browsers write an address; a backslash is a slash to some of them.
_REST = re.compile(r"[!-\[\]-~]*")


def register(text: str, *, loopback: bool) -> str:
    """Return the return URL to store for an app, its origin in the form that browsers use. Raises OriginRefused.

    Loopback URLs where `loopback` is true, as of origins.
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
    """Return the origin of an address as browsers report it, and the rest from its path on; twice empty for none."""
    try:
        parts = urlsplit(url)
        origin = normalize(f"{parts.scheme}://{parts.netloc}")
    except (OriginRefused, ValueError):
        return "", ""
    rest = url[len(parts.scheme) + 3 + len(parts.netloc) :] or "/"
    is_plain = len(url) <= MOST_CHARS and rest[0] in "/?" and _REST.fullmatch(rest) and "#" not in rest
    return (origin, rest if rest[0] == "/" else f"/{rest}") if is_plain else ("", "")


def allows(registered: frozenset[str], url: str, mode: str) -> bool:
    """Tell whether redirect mode may go back to `url`. Test mode takes every loopback URL too."""
    origin, rest = split(url)
    if not origin or origin + rest != url:
        return False
    return (
        url in registered
        or url.partition("?")[0] + _ANY_QUERY in registered
        or (mode == "test" and is_loopback(origin))
    )
