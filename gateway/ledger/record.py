"""One request as Redis keeps it: its hold while it is open, its outcome after that, and its entries in the ledger.

`lua/include/hold.lua` has the format. Only Lua writes it, and nothing but this file and Lua reads it.
"""

from dataclasses import dataclass

from gateway.store.replies import text

_ADMITTED = ("nano", "day", "admitted_ms", "funding_version", "code", "max_tokens", "spent_nano")
_FIRST = ("state", "generation_id", "ended_by", "model", *_ADMITTED)
OPEN = (*_FIRST, "estimate_nano", "attempts", "reconcile_ms", "funding")
CLOSED = (*_FIRST, "cost_nano", "overrun_nano", "tokens", "settled_ms")
"""The lines of an open and of a closed hold."""
# What admission answered where all that was left is held.
_BEYOND = ("2", "3")


@dataclass(frozen=True, slots=True)
class Hold:
    """One request, open or closed. What is not known is None, or empty.

    `is_sent`: it may have left for OpenRouter, as long as its time in `due` does not say otherwise. `ended_by` of an
    open one: it was handed over for its cost to be asked. `admitted_ms`: None where nothing is known but that it is
    void. Only an open one has `is_beyond` (it may cost more than is held), `estimate_nano`, `attempts`,
    `reconcile_ms` and `funding` (the sealed key), only a closed one the rest.
    """

    state: str
    generation_id: str
    ended_by: str
    model: str
    nano: int
    day: int | None
    admitted_ms: int | None
    funding_version: int
    is_sent: bool = True
    is_beyond: bool = False
    estimate_nano: int = 0
    attempts: int = 0
    reconcile_ms: int | None = None
    funding: bytes = b""
    cost_nano: int | None = None
    overrun_nano: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    settled_ms: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether its money is still held."""
        return self.state == "open"


def read_hold(raw: bytes) -> Hold:
    """Return what is kept of a request. Raises ValueError when it cannot be read."""
    try:
        return _hold(raw)
    except ValueError:
        # What it says may be a part of a sealed key.
        raise ValueError("a hold that cannot be read") from None


def read_entry(name: bytes, fields: dict[bytes, bytes]) -> dict[str, str]:
    """Return one entry of the ledger as text by name, its stream id as `entry`. Raises ValueError."""
    closed = dict(zip(CLOSED[:-1], text(fields[b"closed"]).split("\n"), strict=True))
    prompt_tokens, completion_tokens = closed["tokens"].split(" ")
    return {
        "entry": text(name),
        "request_id": text(fields[b"request_id"]),
        "status": closed["state"],
        "day": closed["day"],
        "delta_nano": text(fields[b"delta_nano"]),
        "cost_nano": closed["cost_nano"],
        "hold_nano": closed["nano"],
        "overrun_nano": closed["overrun_nano"],
        "generation_id": closed["generation_id"],
        "model": closed["model"],
        "funding_version": closed["funding_version"],
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "admitted_ms": closed["admitted_ms"],
        "settled_ms": text(name).partition("-")[0],
        "ended_by": closed["ended_by"],
    }


def _hold(raw: bytes) -> Hold:
    *lines, last = raw.split(b"\n", len(OPEN) - 1)
    state, generation_id, ended_by, model, nano, day, admitted_ms, version, code, _, _, first, second, third = map(
        text, lines
    )
    fixed = (state, generation_id, ended_by, model, int(nano), _number(day), _number(admitted_ms), int(version))
    if state == "open":
        return Hold(
            *fixed,
            is_beyond=code in _BEYOND,
            estimate_nano=int(first),
            attempts=int(second),
            reconcile_ms=_number(third),
            funding=last,
        )
    prompt_tokens, completion_tokens = third.split(" ")
    return Hold(
        *fixed,
        cost_nano=int(first),
        overrun_nano=int(second),
        prompt_tokens=_number(prompt_tokens),
        completion_tokens=_number(completion_tokens),
        settled_ms=int(last),
    )


def _number(line: str) -> int | None:
    return int(line) if line else None
