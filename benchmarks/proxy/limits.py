"""The yardsticks: nginx as a bare proxy, and nginx with two Redis scripts for each request."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import redis

from benchmarks.proxy.checkout import REDIS_OPTIONS
from benchmarks.proxy.contender import Contender
from benchmarks.proxy.nginx import complaints, nginx
from benchmarks.proxy.processes import BenchFailed, Cores, on_core
from benchmarks.proxy.stand_in import COST_NANO, StandIn
from tests.servers import ValkeyServer, free_ports

BARE = "nginx"
LUA = "nginx + Lua"
_KEYS = {BARE: "bench-bare", LUA: "bench-lua"}


@dataclass(frozen=True, slots=True)
class Yardsticks:
    """Both yardsticks, each with a plain and a TLS upstream, in one nginx."""

    bare: Contender
    lua: Contender
    bare_tls: Contender
    lua_tls: Contender


@contextlib.contextmanager
def limits(folder: Path, *, upstream: StandIn, cores: Cores) -> Iterator[Yardsticks]:
    """Yield both yardsticks, running on the service's core, with their own Redis on the other."""
    with contextlib.ExitStack() as stack:
        with on_core(cores.other):
            store = stack.enter_context(ValkeyServer(tcp=True, options=REDIS_OPTIONS))
        names = ("BARE_PORT", "LUA_PORT", "BARE_TLS_PORT", "LUA_TLS_PORT")
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        upstream_ports = {"UPSTREAM_PORT": upstream.port, "UPSTREAM_TLS_PORT": upstream.tls_port}
        values = {**ports, **upstream_ports, "REDIS_PORT": store.port}
        port = ports["LUA_PORT"]
        pids = stack.enter_context(nginx("proxy", values, folder=folder, core=cores.service, port=port))

        def check() -> None:
            _check(store, upstream, folder)

        def contender(name: str, port_name: str) -> Contender:
            redis_pids = [store.pid] if name == LUA else []
            return Contender(name, ports[port_name], _KEYS[name], _KEYS[name], pids, redis_pids, check=check)

        yield Yardsticks(
            contender(BARE, "BARE_PORT"),
            contender(LUA, "LUA_PORT"),
            contender(BARE, "BARE_TLS_PORT"),
            contender(LUA, "LUA_TLS_PORT"),
        )


def _check(store: ValkeyServer, upstream: StandIn, folder: Path) -> None:
    """Compare the cost booked by nginx + Lua with upstream's count. Raises BenchFailed."""
    spent = held = 0
    with redis.Redis.from_url(store.tcp_url) as client:
        for key in client.scan_iter("bench:*:budget", count=1000):
            budget = client.hgetall(key)
            spent += int(budget.get(b"spent", 0))
            held += int(budget.get(b"held", 0))
    due = upstream.served(_KEYS[LUA]) * COST_NANO
    if spent != due or held:
        log_text = complaints("proxy", folder)[-1000:]
        raise BenchFailed(f"{LUA} booked {spent} nano-USD of {due}, {held} still held. {log_text}")
