"""The rows of the benchmark. In each row the contenders are measured alternately within a minute; medians count."""

import contextlib
from collections.abc import Callable, Mapping

from benchmarks.proxy.bench import USERS, Bench, Round
from benchmarks.proxy.latency import added_latency
from benchmarks.proxy.load import Load
from benchmarks.proxy.memory import memory
from benchmarks.proxy.peers import peers
from benchmarks.proxy.results import Result
from benchmarks.proxy.streams import open_streams

_PROMPT_BYTES = 1_000_000
# Enough to keep the service busy; each connection has its megabyte in several buffers at once.
_PROMPT_CONNECTIONS = 8
_CONNECTIONS = (1, 1_000, 100_000)
_OPEN_HOLDS = 1_000


def throughput(bench: Bench, *, stream: bool) -> list[Result]:
    """Measure plain requests and streams at 32 and 256 connections; a peer is too slow for 256."""
    kind = "stream of 20 chunks" if stream else "plain"
    rounds = []
    with bench.gateways() as gateways, peers(bench) as others:
        for connections in (32,) if bench.options.is_quick else (32, 256):
            load = Load(stream=stream, connections=connections, users=USERS)
            row = f"{kind}, {connections} connections"
            contenders = [bench.limits.bare, bench.limits.lua, *gateways, *(others if connections == 32 else [])]
            rounds += [Round(row, contender, load) for contender in contenders]
        return bench.run_rounds(rounds)


def long_prompt(bench: Bench) -> list[Result]:
    """Measure requests with a prompt of one megabyte."""
    load = Load(connections=_PROMPT_CONNECTIONS, users=USERS, prompt_bytes=_PROMPT_BYTES)
    with bench.gateways() as gateways:
        contenders = (bench.limits.bare, bench.limits.lua, *gateways)
        return bench.run_rounds([Round("prompt of 1 MB", contender, load) for contender in contenders])


def tls(bench: Bench) -> list[Result]:
    """Measure with TLS to upstream over kept connections, as in production."""
    with bench.gateways(tls=True) as gateways:
        contenders = (bench.limits.bare_tls, bench.limits.lua_tls, *gateways)
        rounds = [
            Round(f"TLS to upstream, {kind}", contender, Load(stream=kind == "stream", users=USERS))
            for kind in ("plain", "stream")
            for contender in contenders
        ]
        return bench.run_rounds(rounds)


def holds(bench: Bench) -> list[Result]:
    """Measure plain requests of one user, alone and with a thousand open slow streams of the same user.

    What the gateway does meanwhile to keep those holds alive is part of the figure.
    """
    results = []
    with bench.gateways() as gateways:
        contenders = (bench.limits.lua, *gateways)
        for count in (0, _OPEN_HOLDS):
            row = f"one user, {count:,} more open holds"
            with contextlib.ExitStack() as stack:
                for contender in contenders:
                    stack.enter_context(open_streams(contender, bench.upstream, count, users=1))
                results += bench.run_rounds([Round(row, contender, Load(users=1)) for contender in contenders])
    return results


def workers(bench: Bench) -> list[Result]:
    """Measure two workers on the core of one worker: the cost per request of a second one, in gateway and Redis.

    How fast two are on a core each cannot be shown where load, upstream and Redis need the second core. If neither
    figure grows, each further worker brings the speed of one, until Redis' own core is full.
    """
    with bench.gateways() as single, bench.gateways(workers=2) as double:
        rounds = []
        for row, gateways in (("one worker", single), ("two workers, same core", double)):
            contenders = (bench.limits.lua, *gateways)
            rounds += [Round(row, contender, Load(connections=64, users=USERS)) for contender in contenders]
        return bench.run_rounds(rounds)


def connections(bench: Bench) -> list[Result]:
    """Measure plain requests spread over one, a thousand and a hundred thousand connected users."""
    results = []
    before = 1
    with bench.installation(users=before) as installation, installation.gateway() as gateway:
        for count in _CONNECTIONS:
            installation.connect(count, first=before)
            before = count
            row = f"{count:,} connection{'s' if count > 1 else ''} in Redis"
            load = Load(users=count)
            results += bench.run_rounds([Round(row, each, load) for each in (bench.limits.lua, gateway)])
        installation.check()
    return results


ROWS: Mapping[str, Callable[[Bench], list[Result]]] = {
    "plain": lambda bench: throughput(bench, stream=False),
    "stream": lambda bench: throughput(bench, stream=True),
    "tls": tls,
    "prompt": long_prompt,
    "latency": added_latency,
    "holds": holds,
    "workers": workers,
    "memory": memory,
    "connections": connections,
}
