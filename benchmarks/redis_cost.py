"""What one request costs Redis: `python -m benchmarks.redis_cost [--requests N] [--depth N]`.

A Valkey of its own runs admit, sent, (id,) settle as the gateway sends them, and beside it the two scripts of a bare
nginx + Lua proxy (`YARDSTICK_…`). Both go over one connection, `depth` requests in flight, in turns, so that a busy
machine slows both; only the ratio means anything. The CPU is that of Redis' main thread. Every write goes to the
append-only file, as `make bench` and operators have it.
"""

import argparse
import asyncio
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import hiredis

from benchmarks.proxy.checkout import REDIS_OPTIONS
from gateway.keys import Budget
from gateway.ledger.holds import Ledger
from gateway.ledger.outcomes import Admission, Settlement
from gateway.ledger.worst_case import WorstCase
from gateway.payers.connections import change_keys
from gateway.store import scripts
from gateway.store.connection import pack
from gateway.store.scripts import Call, RequestCommand, Script
from gateway.store.store import Store
from tests.servers import ValkeyServer

ROUNDS = 9
USERS = 16
# Reading the CPU costs Redis as much as a command, so it is read once for each batch of this many requests.
BATCH = 400
WORST = WorstCase(fixed_nano=120_000, per_token_zepto=10_000 * 10**12, max_tokens=400, least_tokens=16)
SETTLED = Settlement("settled", 61_250, "gen-1790000000-abcdefghijklmnopqrst", "acme/large", 15, 20, "works")
# The scripts of a proxy in nginx + Lua for the same request, without ledger, window, day, lease or mark.
YARDSTICK_ADMIT = (
    "local t=tonumber(redis.call('HGET',KEYS[1],'spent') or '0') "
    "local h=tonumber(redis.call('HGET',KEYS[1],'held') or '0') "
    "if t>=tonumber(ARGV[1]) or t+h+tonumber(ARGV[2])>tonumber(ARGV[1]) then return {0,t} end "
    "redis.call('HINCRBY',KEYS[1],'held',ARGV[2]) redis.call('HSET',KEYS[2],ARGV[3],ARGV[2]) return {1,t,'sealed'}"
)
YARDSTICK_SETTLE = (
    "local a=redis.call('HGET',KEYS[2],ARGV[2]) if not a then return 0 end redis.call('HDEL',KEYS[2],ARGV[2]) "
    "redis.call('HINCRBY',KEYS[1],'held',-a) return redis.call('HINCRBY',KEYS[1],'spent',ARGV[1])"
)
# Commands sent by a client rather than called by a script, and those of this measurement.
_OUTER = frozenset({"evalsha", "script", "info", "config"})

Step = Callable[[Budget, str], Awaitable[object]]


@dataclass
class RedisWire(asyncio.Protocol):
    """One pipelined connection with the methods of a Store that the ledger needs."""

    scripts: Mapping[str, Script]
    out: list[bytes] = field(default_factory=list)
    waiting: list[asyncio.Future[Any]] = field(default_factory=list)
    reader: hiredis.Reader = field(default_factory=hiredis.Reader)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Pass each reply to its waiter, in order."""
        self.reader.feed(data)
        while (answer := self.reader.gets()) is not False:
            self.waiting.pop(0).set_result(answer)

    def call(self, *words: str | int | bytes) -> "asyncio.Future[Any]":
        """Send one command."""
        return self._send(pack(words))

    def frequent(
        self,
        script: str,
        words: Callable[[Budget, str], Sequence[str]],
        *,
        keys: int,
        more: int,
        constants: str = "",
    ) -> RequestCommand:
        """Return a frequent call of one of the gateway's scripts."""
        its = Script.of(constants + self.scripts[script].text)
        self._send(its.load)
        return its.frequent(words, keys=keys, more=more)

    async def run(
        self,
        script: str | Call,
        names: Sequence[str] = (),
        args: Sequence[str | int] = (),
        behind: str | None = None,
    ) -> Any:
        """Run one of the gateway's scripts."""
        del behind
        _, packed, _ = self.scripts[script].call(names, args) if isinstance(script, str) else script
        answer = await self._send(packed)
        if isinstance(answer, Exception):
            raise answer
        return answer

    post = run

    def post_then(self, call: Call, then: Callable[[bool], None]) -> None:
        """Do as `post`; `then` is called with the reply."""
        self._send(call[1]).add_done_callback(lambda answer: then(answer.exception() is None))

    def _send(self, packed: bytes) -> "asyncio.Future[Any]":
        loop = asyncio.get_running_loop()
        if not self.out:
            loop.call_soon(self._flush)
        self.out.append(packed)
        self.waiting.append(loop.create_future())
        return self.waiting[-1]

    def _flush(self) -> None:
        self.transport.write(b"".join(self.out))
        self.out.clear()

    async def info(self, section: str) -> dict[str, str]:
        """Return one section of INFO."""
        lines = (await self.call("INFO", section)).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    async def cpu_us(self) -> float:
        """Return the CPU time of Redis's main thread in microseconds."""
        found = await self.info("cpu")
        return 1e6 * (float(found["used_cpu_user_main_thread"]) + float(found["used_cpu_sys_main_thread"]))

    async def inner_calls(self) -> int:
        """Return the number of commands that scripts called since the last CONFIG RESETSTAT."""
        found = await self.info("commandstats")
        counted = {name.removeprefix("cmdstat_").partition("|")[0]: line for name, line in found.items()}
        return sum(int(line.split("calls=")[1].split(",")[0]) for name, line in counted.items() if name not in _OUTER)


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU of each step in microseconds, and the commands called by scripts and sent by the client, per request."""

    steps_us: dict[str, float]
    calls: float

    @property
    def total_us(self) -> float:
        """CPU of the whole request in microseconds."""
        return sum(self.steps_us.values())


async def cost(wire: RedisWire, steps: Mapping[str, Step], *, first: int, requests: int, depth: int) -> Cost:
    """Run `requests` requests through all steps, `depth` at a time, and return their cost."""
    spent = dict.fromkeys(steps, 0.0)
    await wire.call("CONFIG", "RESETSTAT")
    for start in range(first, first + requests, BATCH):
        numbers = range(start, start + BATCH)
        work = [
            (Budget.of_user("live", "app2222222222222222", f"u{number % USERS}"), f"req_{number:032}")
            for number in numbers
        ]
        for name, step in steps.items():
            before = await wire.cpu_us()
            for part in range(0, BATCH, depth):
                await asyncio.gather(*(step(budget, request_id) for budget, request_id in work[part : part + depth]))
            spent[name] += await wire.cpu_us() - before
    return Cost({name: us / requests for name, us in spent.items()}, await wire.inner_calls() / requests)


def gateway_steps(wire: RedisWire, *, with_id: bool) -> dict[str, Step]:
    """Return the gateway's steps for a plain request; `with_id`: its generation id is posted before its end."""
    ledger = Ledger(cast(Store, wire), keep_days=90, lease_ms=60_000)

    held: dict[str, Admission] = {}

    async def admit(budget: Budget, request_id: str) -> object:
        admission = await ledger.admit(budget, request_id, WORST, model="acme/large", estimate_nano=1234)
        if isinstance(admission, Admission):
            held[request_id] = admission
        return admission

    async def sent(budget: Budget, request_id: str) -> object:
        marked: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        ledger.post_sent(budget, request_id, held[request_id].due_ms, marked.set_result)
        return await marked

    async def settle(budget: Budget, request_id: str) -> object:
        return await ledger.settle(budget, request_id, SETTLED, held.pop(request_id))

    async def generation(budget: Budget, request_id: str) -> object:
        await ledger.post_generation(budget, request_id, SETTLED.generation_id)
        return None

    steps: dict[str, Step] = {"admit": admit, "sent": sent}
    return steps | ({"id": generation} if with_id else {}) | {"settle": settle}


def yardstick_steps(wire: RedisWire, shas: list[str]) -> dict[str, Step]:
    """Return the steps of nginx + Lua for the same request."""

    async def admit(budget: Budget, request_id: str) -> object:
        key = f"b:{{{budget.owner.tag}}}"
        return await wire.call("EVALSHA", shas[0], 2, key + "c", key + "h", 10**15, 100_000, request_id)

    async def settle(budget: Budget, request_id: str) -> object:
        key = f"b:{{{budget.owner.tag}}}"
        return await wire.call("EVALSHA", shas[1], 2, key + "c", key + "h", 61_250, request_id)

    return {"admit": admit, "settle": settle}


async def measure(url: str, *, requests: int, depth: int) -> None:
    """Print the cost of each step, and the ratio to nginx + Lua."""
    known = scripts.load()
    _, wire = await asyncio.get_running_loop().create_unix_connection(
        lambda: RedisWire(known), url.removeprefix("unix://")
    )
    for script in known.values():
        await wire.call("SCRIPT", "LOAD", script.text)
    shas = [(await wire.call("SCRIPT", "LOAD", text)).decode() for text in (YARDSTICK_ADMIT, YARDSTICK_SETTLE)]
    for user in range(USERS):
        budget = Budget.of_user("live", "app2222222222222222", f"u{user}")
        yes: list[str | int] = [10**15, "s" * 120, "wallet", "https://example.org", "a" * 13, "", 1, "payer", "", ""]
        await wire.run("connect", change_keys(budget), yes)
    cases = {
        "two trivial scripts": yardstick_steps(wire, shas),
        "plain request": gateway_steps(wire, with_id=False),
        "stream": gateway_steps(wire, with_id=True),
    }
    found: dict[str, list[Cost]] = {case: [] for case in cases}
    for number in range(ROUNDS * len(cases)):
        case = list(cases)[number % len(cases)]
        found[case].append(await cost(wire, cases[case], first=number * requests, requests=requests, depth=depth))
    trivial_us = statistics.median(each.total_us for each in found["two trivial scripts"])
    for case, costs in found.items():
        typical = sorted(costs, key=lambda each: each.total_us)[len(costs) // 2]
        steps = " + ".join(f"{name} {us:.1f}" for name, us in typical.steps_us.items())
        print(
            f"{case:>20}: {typical.total_us:6.1f} µs = {typical.total_us / trivial_us:.2f}x"
            f"   {typical.calls:4.1f} commands   ({steps})"
        )


def main() -> None:
    """Measure on a separate server."""
    parser = argparse.ArgumentParser(prog="redis_cost", description="What one request costs Redis.")
    parser.add_argument("--requests", type=int, default=800, help="of each kind a round")
    parser.add_argument("--depth", type=int, default=4, help="requests in flight")
    arguments = parser.parse_args()
    with ValkeyServer(options=REDIS_OPTIONS) as server:
        asyncio.run(measure(server.url, requests=arguments.requests, depth=arguments.depth))


if __name__ == "__main__":
    main()
