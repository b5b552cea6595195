"""The latency that a service adds at one connection: its percentiles minus those of direct requests to upstream."""

import statistics
import time
from collections.abc import Sequence

from benchmarks.proxy.bench import Bench
from benchmarks.proxy.contender import Contender
from benchmarks.proxy.probe import ProbeAnswer, ProbeConnection, body_of
from benchmarks.proxy.processes import BenchFailed
from benchmarks.proxy.results import Result

_WARM_UP = 100


def added_latency(bench: Bench) -> list[Result]:
    """Return the added time until the last and the first byte; each answer must equal upstream's."""
    direct = Contender("direct", bench.upstream.port, "due", "due", [])
    results = []
    with bench.gateways() as gateways:
        contenders = (bench.limits.bare, bench.limits.lua, *gateways)
        for stream in (False, True):
            samples: dict[str, list[dict[str, float]]] = {each.name: [] for each in contenders}
            for _ in range(bench.options.rounds):
                base = _percentiles(_answers(direct, bench.options.seconds / 2, stream=stream))
                for each in contenders:
                    found = _percentiles(_answers(each, bench.options.seconds, stream=stream))
                    samples[each.name].append({name: found[name] - base[name] for name in found})
            row = f"{'stream' if stream else 'plain'}, one connection"
            results += [Result.of(row, name, taken) for name, taken in samples.items()]
    return results


def _answers(contender: Contender, seconds: float, *, stream: bool) -> list[ProbeAnswer]:
    body = body_of(stream=stream)
    answers = []
    with ProbeConnection(contender.port, contender.key) as caller:
        due = caller.ask(body)
        for _ in range(_WARM_UP):
            caller.ask(body)
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            got = caller.ask(body)
            if (got.status, got.without_id) != (200, due.without_id):
                raise BenchFailed(f"{contender.name} answered {got.status}, {got.body[:300]!r}, not upstream's bytes.")
            answers.append(got)
    return answers


def _percentiles(answers: Sequence[ProbeAnswer]) -> dict[str, float]:
    whole = statistics.quantiles((each.seconds for each in answers), n=100)
    first = statistics.quantiles((each.first_seconds for each in answers), n=100)
    found = {"added_p50_ms": whole[49], "added_p99_ms": whole[98]}
    found |= {"first_added_p50_ms": first[49], "first_added_p99_ms": first[98]}
    return {name: seconds * 1000 for name, seconds in found.items()}
