"""The digest that stands in Redis, and in names, for a secret that must not lie there itself."""

import hashlib


def sha256_hex(text: str) -> str:
    """Return the SHA-256 of a text as 64 hex digits. Any text has one, also one that is no valid UTF-8."""
    # surrogatepass: a header's stray bytes and a JSON escape such as \ud800 reach us as lone surrogates.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
