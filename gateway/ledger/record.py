"""Parses a request's record in Redis (the open hold, later the outcome) and the ledger's entries.

Rule: only Lua writes records, and only this file and Lua read them. The format is in `lua/include/hold.lua`.
"""

from dataclasses import dataclass

from gateway.store.replies import text

_ADMITTED = ("nano", "day", "admitted_ms", "funding_version", "code", "max_tokens", "spent_nano")
_FIRST = ("state", "generation_id", "ended_by", "model", *_ADMITTED)
OPEN = (*_FIRST, "estimate_nano", "attempts", "reconcile_ms", "funding")
CLOSED = (*_FIRST, "cost_nano", "overrun_nano", "tokens", "settled_ms")
"""The lines of an open and of a closed hold."""
# Codes of `admit.lua` for holds of all that was left, below the request's bound.
_BEYOND = ("2", "3")


@dataclass(frozen=True, slots=True)
class Hold:
    """One request's record, open or closed. Unknown values are None, or empty.

    `is_sent`: whether the request may have been sent upstream; the mark in `due` decides. `ended_by` of an open hold:
    it was handed over to the sweeper. `admitted_ms`: None if only a void is known. `is_beyond` (the request's bound is
    above its hold), `estimate_nano`, `attempts`, `reconcile_ms` and `funding` (the sealed key) are of open holds only,
    the fields after them of closed ones only.
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
        """Whether the money is still held."""
        return self.state == "open"


def read_hold(raw: bytes) -> Hold:
    """Parse a request's record. Raises ValueError if it is unreadable."""
    try:
        return _hold(raw)
    except ValueError:
        # The original message may contain a part of a sealed key.
        raise ValueError("a hold that cannot be read") from None


def read_entry(name: bytes, fields: dict[bytes, bytes]) -> dict[str, str]:
    """Parse an entry of the ledger: text values by name, and its stream id as `entry`. Raises ValueError."""
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
