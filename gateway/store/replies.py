"""What Redis answers, as Python's own: bytes, flat lists and hashes read once, here."""


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
