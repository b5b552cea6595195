"""Encryption of secrets at rest: AES-256-GCM under a ring of master keys, with the secret's place as associated data.

Rule: a sealed key that is copied to another connection or wallet cannot be opened there.
"""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.key_rings import KeyRing

_NONCE_BYTES = 12  # GCM's recommended size: NIST SP 800-38D §5.2.1.1


class SealBroken(Exception):
    """A sealed value cannot be opened: wrong place, missing master key, or altered bytes."""


class Sealer:
    """Seals and opens secrets. The newest master key seals, every key of the ring can open."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        self._ciphers = {kid.encode(): AESGCM(key) for kid, key in ring.keys}

    def seal(self, secret: str, *, place: str) -> bytes:
        """Return `kid:`, nonce and ciphertext of `secret`. `place`: the associated data, naming where it is stored."""
        kid = self._ring.newest[0].encode()
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return kid + b":" + nonce + self._ciphers[kid].encrypt(nonce, secret.encode(), place.encode())

    def open(self, sealed: bytes, *, place: str) -> str:
        """Return the secret. Raises SealBroken."""
        kid, _, rest = sealed.partition(b":")
        cipher = self._ciphers.get(kid)
        if cipher is None:
            raise SealBroken("sealed under a master key that WATTFARE_MASTER_KEYS no longer holds")
        try:
            return cipher.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], place.encode()).decode()
        except (InvalidTag, ValueError):
            raise SealBroken("does not open here") from None

    def is_newest(self, sealed: bytes) -> bool:
        """Return whether `sealed` is under the newest master key."""
        return sealed.partition(b":")[0] == self._ring.newest[0].encode()
