"""The services of a whole run, and the alternating measurement of contenders."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.proxy.checkout import HERE, Installation
from benchmarks.proxy.contender import Contender
from benchmarks.proxy.limits import Yardsticks
from benchmarks.proxy.load import Load, measure
from benchmarks.proxy.options import Options
from benchmarks.proxy.probe import ask, body_of
from benchmarks.proxy.processes import BenchFailed, Cores
from benchmarks.proxy.results import Result
from benchmarks.proxy.stand_in import StandIn

OURS = "Wattfare"
# The users of a row, except in rows about their number.
USERS = 16


@dataclass(frozen=True, slots=True)
class Round:
    """One contender's measurement in one row."""

    row: str
    contender: Contender
    load: Load


@dataclass(frozen=True, slots=True)
class Bench:
    """The services that run during a whole run."""

    options: Options
    folder: Path
    cores: Cores
    upstream: StandIn
    limits: Yardsticks
    installations: Sequence[Installation]

    @contextlib.contextmanager
    def gateways(self, *, workers: int = 1, tls: bool = False) -> Iterator[list[Contender]]:
        """Yield each installation's gateway, freshly started and verified to relay upstream's bytes."""
        with contextlib.ExitStack() as stack:
            opened = [stack.enter_context(each.gateway(workers=workers, tls=tls)) for each in self.installations]
            for contender in opened:
                compare_bytes(contender, self.upstream)
            yield opened

    @contextlib.contextmanager
    def installation(self, *, users: int) -> Iterator[Installation]:
        """Yield an installation of this checkout with an empty Redis of its own."""
        with Installation.open(
            OURS, HERE, users=users, folder=self.folder, upstream=self.upstream, cores=self.cores
        ) as made:
            yield made

    def run_rounds(self, rounds: Sequence[Round]) -> list[Result]:
        """Measure the contenders alternately, for several rounds, and return the medians."""
        samples: list[list[Mapping[str, float]]] = [[] for _ in rounds]
        for _ in range(self.options.rounds):
            for one, taken in zip(rounds, samples, strict=True):
                seconds = self.options.seconds
                sample = measure(one.contender, self.upstream, one.load, seconds=seconds, cores=self.cores)
                taken.append(dataclasses.asdict(sample))
        return [Result.of(one.row, one.contender.name, taken) for one, taken in zip(rounds, samples, strict=True)]


def compare_bytes(contender: Contender, upstream: StandIn) -> None:
    """Request a plain answer and a stream, and compare their bytes with upstream's. Raises BenchFailed."""
    if not contender.is_exact:
        return
    for stream in (False, True):
        body = body_of(stream=stream)
        due = ask(upstream.port, body, key="due")
        got = ask(contender.port, body, key=contender.key)
        if (got.status, got.without_id) != (200, due.without_id):
            raise BenchFailed(f"{contender.name} answered {got.status}, {got.body[:300]!r}, not upstream's bytes.")


@contextlib.contextmanager
def open_installations(
    options: Options, *, folder: Path, upstream: StandIn, cores: Cores
) -> Iterator[list[Installation]]:
    """Yield this checkout's installation and, if given, a second checkout's."""
    roots = {OURS: HERE} | ({options.other.name: options.other} if options.other else {})
    with contextlib.ExitStack() as stack:
        opened = []
        for name, root in roots.items():
            made = Installation.open(name, root, users=USERS, folder=folder, upstream=upstream, cores=cores)
            opened.append(stack.enter_context(made))
        yield opened
