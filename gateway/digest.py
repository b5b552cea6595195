"""SHA-256 digests, which stand for secrets in Redis and in key names."""

import hashlib


def sha256_hex(text: str) -> str:
    """Return the SHA-256 of a text as 64 hex digits, for any text, even one with lone surrogates."""
    # surrogatepass: invalid bytes of a header and JSON escapes such as \ud800 arrive as lone surrogates.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
