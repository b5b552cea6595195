"""What is measured, row by row. In each row the contenders take turns within the same minute, and medians count."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.proxy.checkout import HERE, Cores, Installation
from benchmarks.proxy.contender import Contender
from benchmarks.proxy.limits import Limits
from benchmarks.proxy.load import Load, measure
from benchmarks.proxy.options import Options
from benchmarks.proxy.probe import ask, body_of
from benchmarks.proxy.processes import BenchFailed
from benchmarks.proxy.results import Result
from benchmarks.proxy.stand_in import StandIn

OURS = "Wattfare"
# A row's users, but for the rows that are about their number.
USERS = 16


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything that runs during all of a run."""

    options: Options
    folder: Path
    cores: Cores
    upstream: StandIn
    limits: Limits
    installations: Sequence[Installation]

    @contextlib.contextmanager
    def gateways(self, *, workers: int = 1, tls: bool = False) -> Iterator[list[Contender]]:
        """Yield the gateway of each installation, freshly started, each known to hand on upstream's bytes."""
        with contextlib.ExitStack() as stack:
            opened = [stack.enter_context(each.gateway(workers=workers, tls=tls)) for each in self.installations]
            for contender in opened:
                compare_bytes(contender, self.upstream)
            yield opened

    def take_turns(self, row: str, contenders: Sequence[Contender], load: Load) -> list[Result]:
        """Measure each contender in turn, and again, and return the medians."""
        samples: dict[str, list[Mapping[str, float]]] = {each.name: [] for each in contenders}
        for _ in range(self.options.rounds):
            for each in contenders:
                sample = measure(each, self.upstream, load, seconds=self.options.seconds, core=self.cores.other)
                samples[each.name].append(dataclasses.asdict(sample))
        return [Result.of(row, name, taken) for name, taken in samples.items()]


def compare_bytes(contender: Contender, upstream: StandIn) -> None:
    """Ask for a plain answer and a stream, and compare each byte with upstream's own. Raises BenchFailed."""
    if not contender.is_exact:
        return
    for stream in (False, True):
        body = body_of(stream=stream)
        due = ask(upstream.port, body, key="due")
        got = ask(contender.port, body, key=contender.key)
        if (got.status, got.without_id) != (200, due.without_id):
            raise BenchFailed(f"{contender.name} answered {got.status}, {got.body[:300]!r}, not upstream's bytes.")


def throughput(bench: Bench, *, stream: bool) -> list[Result]:
    """A request's CPU at 32 and at 256 connections."""
    kind = "stream" if stream else "plain"
    results = []
    with bench.gateways() as gateways:
        for connections in (32,) if bench.options.is_quick else (32, 256):
            contenders = [bench.limits.bare, bench.limits.lua, *gateways]
            load = Load(stream=stream, connections=connections, users=USERS)
            results += bench.take_turns(f"{kind}, {connections} connections", contenders, load)
    return results


ROWS: Mapping[str, Callable[[Bench], list[Result]]] = {
    "plain": lambda bench: throughput(bench, stream=False),
    "stream": lambda bench: throughput(bench, stream=True),
}


@contextlib.contextmanager
def open_installations(
    options: Options, *, folder: Path, upstream: StandIn, cores: Cores, users: int = USERS
) -> Iterator[list[Installation]]:
    """Yield this checkout's installation and, if one is asked for, another's."""
    roots = {OURS: HERE} | ({options.other.name: options.other} if options.other else {})
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                Installation.open(name, root, users=users, folder=folder, upstream=upstream, cores=cores)
            )
            for name, root in roots.items()
        ]
