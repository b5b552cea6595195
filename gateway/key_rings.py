"""Key rings: master keys, which seal funding keys, and JWT keys, which sign session tokens; newest first.

Rule: no message repeats a key. In development a missing ring is created once, in the data folder.
"""

import base64
import binascii
import json
import os
import re
import secrets
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.environment import Environment, SettingsError

KEY_BYTES: Final = 32  # for AES-256; also the least that HS256 requires (RFC 7518 §3.2)
_MASTER = "WATTFARE_MASTER_KEYS"
_JWT = "WATTFARE_JWT_KEYS"
_KID = re.compile(r"[A-Za-z0-9_-]{1,32}")


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Keys of 32 bytes with their ids, newest first. The newest one signs and seals, all verify and open."""

    keys: tuple[tuple[str, bytes], ...] = field(repr=False)

    @property
    def newest(self) -> tuple[str, bytes]:
        """The id and bytes of the newest key."""
        return self.keys[0]

    def find(self, kid: str) -> bytes | None:
        """Return the key with this id, None when the ring has none."""
        return next((key for known, key in self.keys if known == kid), None)

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(kid for kid, _ in self.keys)})"


def read_key_rings(source: Environment, data_dir: Path, *, required: bool) -> tuple[KeyRing, KeyRing]:
    """Return the master ring and the JWT ring; in development a missing one is read from `data_dir`.

    Raises SettingsError.
    """
    master = _given(source, _MASTER, required=required)
    jwt = _given(source, _JWT, required=required)
    if master is None or jwt is None:
        kept_master, kept_jwt = _development_keys(data_dir)
        master, jwt = master or kept_master, jwt or kept_jwt
    if {key for _, key in master.keys} & {key for _, key in jwt.keys}:
        # With a shared key, whoever may sign tokens could also open funding keys.
        raise SettingsError(f"{_JWT} shares a key with {_MASTER}; make each key for one of them alone.")
    return master, jwt


def _given(source: Environment, name: str, *, required: bool) -> KeyRing | None:
    value = source.text(name)
    if value is None and required:
        raise SettingsError(f"{name} is missing; production needs kid:base64(32 random bytes)[,kid:…], newest first.")
    return None if value is None else _parse_ring(name, value)


def _parse_ring(name: str, value: str) -> KeyRing:
    keys: list[tuple[str, bytes]] = []
    for place, item in enumerate(value.split(","), 1):
        kid, colon, encoded = item.strip().partition(":")
        if not colon or not _KID.fullmatch(kid):
            raise SettingsError(
                f"{name} is malformed at key {place}; write kid:base64, the kid 1-32 of A-Z a-z 0-9 _ -."
            )
        key = _decode_key(encoded)
        if key is None:
            raise SettingsError(
                f"{name} is malformed at key {place}; after the colon comes base64 of exactly {KEY_BYTES} bytes."
            )
        if any(kid == other for other, _ in keys):
            raise SettingsError(f"{name} holds the same kid twice, at key {place}; give each key an id of its own.")
        keys.append((kid, key))
    return KeyRing(tuple(keys))


def _decode_key(encoded: str) -> bytes | None:
    """Decode standard or URL-safe base64, with or without padding; None unless it is 32 bytes."""
    plain = encoded.translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        key = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == KEY_BYTES else None


def _development_keys(data_dir: Path) -> tuple[KeyRing, KeyRing]:
    """Return the rings in `data_dir/keys.json`, which the first process creates. Raises SettingsError."""
    path = data_dir / "keys.json"
    try:
        if not path.exists():
            _make_keys(path)
        kept = json.loads(path.read_bytes())
        return _parse_ring(_MASTER, kept["master"]), _parse_ring(_JWT, kept["jwt"])
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SettingsError(
            f"WATTFARE_DATA_DIR cannot keep the development keys ({reason}); name a folder to write to."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SettingsError(
            "WATTFARE_DATA_DIR has a damaged keys.json; restore it, or delete the folder to start anew without data."
        ) from None


def _make_keys(path: Path) -> None:
    """Write new keys to a draft and link it into place: of several processes the first wins, none reads half a file."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = {name: f"dev:{base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}" for name in ("master", "jwt")}
    # mkstemp creates the file with mode 600.
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix="keys-")
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(made, file)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        Path(draft).unlink()
