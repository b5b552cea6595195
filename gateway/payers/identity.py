"""The app's own user id: 1 to 256 bytes of UTF-8 without control characters, and how a header carries it."""

import re
import unicodedata
from urllib.parse import unquote_to_bytes

MAX_BYTES = 256
_ESCAPED_BYTE_ABOVE_ASCII = re.compile(r"%[89A-Fa-f][0-9A-Fa-f]")


def user_id_fault(user_id: str) -> str | None:
    """Return what is wrong with a user id, None when nothing is."""
    try:
        length = len(user_id.encode())
    except UnicodeEncodeError:
        return "must be valid UTF-8"
    if not 1 <= length <= MAX_BYTES:
        return f"must be 1 to {MAX_BYTES} bytes of UTF-8"
    if any(unicodedata.category(character) == "Cc" for character in user_id):
        return "must not hold control characters"
    return None


def from_header(value: str) -> str:
    """Return the user id that an `x-wattfare-user` value stands for. Raises ValueError.

    An id that is plain ASCII stands for itself, `%41` and all; one that is not is percent-encoded UTF-8. A value counts
    as encoded when it holds an escaped byte above ASCII and decodes as UTF-8. Raw UTF-8 is taken as it is.
    """
    # aiohttp reads header bytes as UTF-8 and keeps stray bytes as surrogates: user_id_fault refuses those.
    if value.isascii() and _ESCAPED_BYTE_ABOVE_ASCII.search(value):
        try:
            value = unquote_to_bytes(value).decode()
        except UnicodeDecodeError:
            raise ValueError("is not percent-encoded UTF-8") from None
    fault = user_id_fault(value)
    if fault is not None:
        raise ValueError(fault)
    return value
