"""Redis replies as Python values: the one place that decodes bytes, flat lists and hashes."""

from typing import Any


def text(raw: bytes) -> str:
    """Return a reply's bytes as text."""
    return raw.decode()


def by_name(raw: dict[bytes, bytes]) -> dict[str, bytes]:
    """Return a hash with its field names as text and its values as bytes."""
    return {text(name): value for name, value in raw.items()}


def paired(flat: list[bytes]) -> dict[bytes, bytes]:
    """Return a flat list of names and values as a mapping."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def strings(raw: dict[bytes, bytes]) -> dict[str, str]:
    """Return a hash with names and values as text."""
    return {text(name): text(value) for name, value in raw.items()}


def read(command: str, raw: Any) -> Any:
    """Return a command's reply in its natural shape: a hash as a mapping, a set as a set, a score as a float.

    A stream's entries are pairs of an id and a mapping.
    """
    match command:
        case "HGETALL":
            return paired(raw)
        case "SMEMBERS":
            return set(raw)
        case "XRANGE" | "XREVRANGE":
            return [(entry_id, paired(fields)) for entry_id, fields in raw]
        case "ZSCORE":
            return None if raw is None else float(raw)
        case _:
            return raw
