"""What Redis answers, as Python's own: bytes, flat lists and hashes read once, here."""

from typing import Any


def text(raw: bytes) -> str:
    """Return an answer's bytes as text."""
    return raw.decode()


def by_name(raw: dict[bytes, bytes]) -> dict[str, bytes]:
    """Return a hash by the names of its fields, its values as they came."""
    return {text(name): value for name, value in raw.items()}


def paired(flat: list[bytes]) -> dict[bytes, bytes]:
    """Return a flat list of names and values as a mapping."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def strings(raw: dict[bytes, bytes]) -> dict[str, str]:
    """Return a mapping as text throughout."""
    return {text(name): text(value) for name, value in raw.items()}


def read(command: str, raw: Any) -> Any:
    """Return a command's answer in the shape that is meant: a hash as a mapping, a set as a set, a score as a number.

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
