"""Validates an app's user id (1 to 256 bytes of UTF-8 without control characters) and decodes it from a header."""

import re
from urllib.parse import unquote_to_bytes

MAX_BYTES = 256
# Unicode's category Cc.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ESCAPED_BYTE_ABOVE_ASCII = re.compile(r"%[89A-Fa-f][0-9A-Fa-f]")


def user_id_fault(user_id: str) -> str | None:
    """Return what is wrong with a user id, None if it is valid."""
    try:
        length = len(user_id.encode())
    except UnicodeEncodeError:
        return "must be valid UTF-8"
    if not 1 <= length <= MAX_BYTES:
        return f"must be 1 to {MAX_BYTES} bytes of UTF-8"
    if _CONTROL.search(user_id):
        return "must not hold control characters"
    return None


def from_header(value: str) -> str:
    """Return the user id of an `x-wattfare-user` value. Raises ValueError.

    An ASCII id is sent as it is, even with `%41` in it; any other is percent-encoded UTF-8. A value counts as encoded
    when it has an escaped byte above 0x7F. Raw UTF-8 is accepted unchanged.
    """
    # aiohttp decodes headers as UTF-8 with invalid bytes as surrogates, which user_id_fault refuses.
    if value.isascii() and _ESCAPED_BYTE_ABOVE_ASCII.search(value):
        try:
            value = unquote_to_bytes(value).decode()
        except UnicodeDecodeError:
            raise ValueError("is not percent-encoded UTF-8") from None
    fault = user_id_fault(value)
    if fault is not None:
        raise ValueError(fault)
    return value
