"""Memory of an idle service, and per open stream at one thousand and five thousand streams."""

import time
from collections.abc import Iterator

from benchmarks.proxy.bench import USERS, Bench
from benchmarks.proxy.contender import Contender
from benchmarks.proxy.load import Load, measure
from benchmarks.proxy.processes import memory_bytes
from benchmarks.proxy.results import Result
from benchmarks.proxy.streams import open_streams

_FIRST, _ALL = 1_000, 5_000
# Warm-up: state built at the first request and buffers of ordinary traffic must not count as streams'.
_WARM_UP = (Load(stream=True, users=USERS), Load(users=USERS))
_WARM_SECONDS = 1.0
_SETTLE_SECONDS = 1.0


def memory(bench: Bench) -> list[Result]:
    """Return memory as PSS, which excludes the kernel's socket buffers."""
    results: list[Result] = []
    with bench.gateways() as gateways:
        contenders = (bench.limits.lua, *gateways)
        for contender in contenders:
            idle = [{"idle_mb": memory_bytes(contender.pids) / 1e6}]
            results.append(Result.of("idle", contender.name, idle))
        for contender in contenders:
            results += _of(bench, contender)
    return sorted(results, key=lambda result: result.row)


def _of(bench: Bench, contender: Contender) -> Iterator[Result]:
    for load in _WARM_UP:
        measure(contender, bench.upstream, load, seconds=_WARM_SECONDS, cores=bench.cores)
    before = memory_bytes(contender.pids)
    with open_streams(contender, bench.upstream, _FIRST, users=USERS):
        yield _row(contender, before, _FIRST)
        with open_streams(contender, bench.upstream, _ALL - _FIRST, users=USERS):
            yield _row(contender, before, _ALL)


def _row(contender: Contender, before: int, count: int) -> Result:
    time.sleep(_SETTLE_SECONDS)
    kb = (memory_bytes(contender.pids) - before) / count / 1000
    return Result.of(f"{count:,} open streams", contender.name, [{"stream_kb": kb}])
