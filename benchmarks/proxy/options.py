"""The options of a run, from the environment: `make bench ROWS=plain,tls SECONDS=5`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks.proxy.processes import BenchFailed

ROWS = ("plain", "stream", "tls", "prompt", "latency", "holds", "workers", "memory", "connections")
_QUICK_ROWS = ("plain", "stream")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of one run."""

    rows: tuple[str, ...]
    seconds: float
    """The length of each sample, in seconds."""
    rounds: int
    """The number of samples of each contender, of which the median counts."""
    is_quick: bool
    """Measure at 32 connections only."""
    out: Path
    writes_readme: bool
    with_peers: bool
    other: Path | None
    """A second checkout whose gateway is measured too."""

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read ROWS, SECONDS, ROUNDS, QUICK, OUT, WRITE, PEERS and GATEWAY_DIR. Raises BenchFailed."""
        given = os.environ if environ is None else environ
        is_quick = _is_on(given, "QUICK")
        default = _QUICK_ROWS if is_quick else ROWS
        rows = tuple(filter(None, given.get("ROWS", "").replace(" ", "").split(","))) or default
        if unknown := set(rows) - set(ROWS):
            raise BenchFailed(f"ROWS has no {', '.join(sorted(unknown))}; there are {','.join(ROWS)}.")
        other = given.get("GATEWAY_DIR")
        if other and not Path(other, "gateway").is_dir():
            raise BenchFailed(f"GATEWAY_DIR={other} holds no checkout of the gateway.")
        return cls(
            rows=rows,
            seconds=_number(given, "SECONDS", 2),
            rounds=max(1, int(_number(given, "ROUNDS", 3))),
            is_quick=is_quick,
            out=Path(given.get("OUT") or ".wattfare/bench.json"),
            writes_readme=_is_on(given, "WRITE"),
            with_peers=_is_on(given, "PEERS"),
            other=Path(other).resolve() if other else None,
        )


def _is_on(given: Mapping[str, str], name: str) -> bool:
    return given.get(name, "") not in ("", "0", "no", "off")


def _number(given: Mapping[str, str], name: str, default: float) -> float:
    try:
        value = float(given.get(name) or default)
    except ValueError:
        value = 0
    if value <= 0:
        raise BenchFailed(f"{name} must be a number above 0.")
    return value
