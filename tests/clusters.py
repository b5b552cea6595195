"""Redis in the large for tests: a Cluster of three masters with a replica each, and a group under three Sentinels."""

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from redis.exceptions import RedisError

from tests.servers import ValkeyServer, free_ports

SLOTS = 16384
MASTERS = 3
READY_SECONDS = 30
# A master that does not answer for this long is replaced.
NODE_TIMEOUT_MS = 1000


def wait_for(holds: Callable[[], bool], *, seconds: float = READY_SECONDS) -> None:
    """Ask again and again until `holds` is true; an error counts as no. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while True:
        try:
            if holds():
                return
        except RedisError:
            pass
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.02)


def ask(server: ValkeyServer, *command: str | int) -> Any:
    """Send one command to one server; answers are decoded, not interpreted."""
    with redis.Redis(port=server.port, protocol=2, decode_responses=True, socket_timeout=5) as client:
        connection = client.connection_pool.get_connection()
        try:
            connection.send_command(*command)
            return connection.read_response()
        finally:
            client.connection_pool.release(connection)


class ValkeyCluster:
    """Servers on loopback ports, two each: `nodes[0:3]` begin as masters, `nodes[3:6]`, if any, as their replicas."""

    def __init__(
        self,
        *,
        replicas: bool = True,
        node_timeout_ms: int = NODE_TIMEOUT_MS,
        durable: bool = False,
        options: tuple[str, ...] = (),
    ) -> None:
        given = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(node_timeout_ms))
        more = ("--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0")
        self._options = (*given, *more, *options)
        self._durable = durable
        # The default for a node's cluster bus is its port + 10,000, which may be above 65535 or in use.
        self._buses = free_ports(MASTERS * (2 if replicas else 1))
        self.nodes = [self._node(bus) for bus in self._buses]

    def _node(self, bus: int) -> ValkeyServer:
        return ValkeyServer(tcp=True, durable=self._durable, options=(*self._options, "--cluster-port", str(bus)))

    @property
    def url(self) -> str:
        """The REDIS_URL for a gateway."""
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port}"

    def __enter__(self) -> Self:
        for node in self.nodes:
            node.start()
        self._found()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in self.nodes:
            node.__exit__(kind, error, trace)

    def _found(self) -> None:
        first = self.nodes[0]
        for number, node in enumerate(self.nodes):
            ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if node is not first:
                ask(first, "CLUSTER", "MEET", "127.0.0.1", node.port, self._buses[number])
        share = SLOTS // MASTERS + 1
        for number, master in enumerate(self.nodes[:MASTERS]):
            low, high = number * share, min(SLOTS, (number + 1) * share) - 1
            ask(master, "CLUSTER", "ADDSLOTSRANGE", low, high)
        wait_for(lambda: all(len(self._view(node)) == len(self.nodes) for node in self.nodes))
        for number, replica in enumerate(self.nodes[MASTERS:]):
            ask(replica, "CLUSTER", "REPLICATE", self.name(self.nodes[number]))
        wait_for(self.is_whole)

    def is_whole(self) -> bool:
        """Return whether every node sees all slots served, and each replica follows its master."""
        whole = all("cluster_state:ok" in ask(node, "CLUSTER", "INFO") for node in self.nodes)
        return whole and all("master_link_status:up" in ask(node, "INFO", "replication") for node in self.nodes[3:])

    @staticmethod
    def _view(node: ValkeyServer) -> list[str]:
        lines: list[str] = ask(node, "CLUSTER", "NODES").splitlines()
        return [line for line in lines if "handshake" not in line]

    @staticmethod
    def name(node: ValkeyServer) -> str:
        """The node's id within the cluster."""
        found: str = ask(node, "CLUSTER", "MYID")
        return found

    def owner(self, key: str) -> int:
        """The number of the master that serves `key`."""
        slot = ask(self.nodes[0], "CLUSTER", "KEYSLOT", key)
        for low, high, (_, port, *_), *_ in ask(self.nodes[0], "CLUSTER", "SLOTS"):
            if low <= slot <= high:
                return next(number for number, node in enumerate(self.nodes) if node.port == port)
        raise LookupError(key)

    def join(self) -> int:
        """Start one more master, empty and without a slot; return its number."""
        [bus] = free_ports(1)
        self.nodes.append(self._node(bus).start())
        ask(self.nodes[0], "CLUSTER", "MEET", "127.0.0.1", self.nodes[-1].port, bus)
        wait_for(lambda: all("cluster_state:ok" in ask(node, "CLUSTER", "INFO") for node in self.nodes))
        wait_for(lambda: all(len(self._view(node)) == len(self.nodes) for node in self.nodes))
        return len(self.nodes) - 1

    def move(self, key: str, to: int) -> None:
        """Give the slot of `key` and all in it to another master, key by key, as an operator's resharding does."""
        self.begin_move(key, to)
        slot = ask(self.nodes[0], "CLUSTER", "KEYSLOT", key)
        while names := ask(self.nodes[self.owner(key)], "CLUSTER", "GETKEYSINSLOT", slot, 5):
            self.carry(key, to, *names)
        self.end_move(key, to)

    def begin_move(self, key: str, to: int) -> None:
        """Open the slot of `key`: from here on each of its keys may lie on either master."""
        slot = ask(self.nodes[0], "CLUSTER", "KEYSLOT", key)
        source, target = self.nodes[self.owner(key)], self.nodes[to]
        ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.name(source))
        ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.name(target))

    def carry(self, key: str, to: int, *names: str) -> None:
        """Move some keys of an open slot."""
        source, target = self.nodes[self.owner(key)], self.nodes[to]
        ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *names)

    def end_move(self, key: str, to: int) -> None:
        """Assign the slot of `key` to another master."""
        slot = ask(self.nodes[0], "CLUSTER", "KEYSLOT", key)
        source, target = self.nodes[self.owner(key)], self.nodes[to]
        others = [node for node in self.nodes if "role:master" in ask(node, "INFO", "replication")]
        for node in (target, source, *others):
            ask(node, "CLUSTER", "SETSLOT", slot, "NODE", self.name(target))

    def fail_over(self, number: int) -> None:
        """Kill a master and wait until its replica serves in its place."""
        replica = self.nodes[number + MASTERS]
        self.nodes[number].kill()
        wait_for(lambda: "role:master" in ask(replica, "INFO", "replication"))
        living = [node for node in self.nodes if node is not self.nodes[number]]
        wait_for(lambda: all("cluster_state:ok" in ask(node, "CLUSTER", "INFO") for node in living))

    def restore_roles(self) -> None:
        """Make `nodes[0:3]` the masters again. On a busy machine one may miss its timeout and be replaced, too."""
        for node in self.nodes[:MASTERS]:
            if "role:master" not in ask(node, "INFO", "replication"):
                wait_for(partial(_says, node, "master_link_status:up"))
                ask(node, "CLUSTER", "FAILOVER")
                wait_for(partial(_says, node, "role:master"))
        wait_for(self.is_whole)


def _says(node: ValkeyServer, line: str) -> bool:
    return line in ask(node, "INFO", "replication")


class SentinelGroup:
    """A master, its replica and three Sentinels, on loopback ports."""

    NAME = "wattfare"

    def __init__(self) -> None:
        self.master = ValkeyServer(tcp=True, options=("--repl-diskless-sync-delay", "0"))
        follow = ("--replicaof", f"127.0.0.1 {self.master.port}", "--repl-diskless-sync-delay", "0")
        self.replica = ValkeyServer(tcp=True, options=follow)
        self.sentinels = [_Sentinel(self.NAME, self.master.port) for _ in range(3)]

    @property
    def url(self) -> str:
        """The REDIS_URL for a gateway."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{self.NAME}"

    def __enter__(self) -> Self:
        self.master.start()
        self.replica.start()
        wait_for(lambda: "master_link_status:up" in ask(self.replica, "INFO", "replication"))
        for sentinel in self.sentinels:
            sentinel.start()
        wait_for(lambda: all(self._knows_all(sentinel) for sentinel in self.sentinels))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sentinel in self.sentinels:
            sentinel.stop()
        self.replica.__exit__(kind, error, trace)
        self.master.__exit__(kind, error, trace)

    def _knows_all(self, sentinel: "_Sentinel") -> bool:
        told = sentinel.ask("SENTINEL", "MASTER", self.NAME)
        facts = dict(zip(told[::2], told[1::2], strict=True))
        return (facts["num-slaves"], facts["num-other-sentinels"]) == ("1", "2")

    def silence_one(self) -> None:
        """Freeze the Sentinel that is queried first."""
        self.sentinels[0].freeze()

    def wait_for_failover(self) -> None:
        """Wait until every running Sentinel reports the replica as the master."""
        speaking = [sentinel for sentinel in self.sentinels if not sentinel.is_frozen]
        wait_for(lambda: all(sentinel.master_port() == self.replica.port for sentinel in speaking))


class _Sentinel:
    def __init__(self, name: str, master_port: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="wf-"))
        [self.port] = free_ports(1)
        self._name = name
        self._process: subprocess.Popen[bytes] | None = None
        self.is_frozen = False
        (self.folder / "sentinel.conf").write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\nlogfile {self.folder}/log\n"
            f"sentinel monitor {name} 127.0.0.1 {master_port} 2\n"
            f"sentinel down-after-milliseconds {name} 600\nsentinel failover-timeout {name} 4000\n"
        )

    def start(self) -> None:
        from devstore.embedded import server_binary

        command = [server_binary(), str(self.folder / "sentinel.conf"), "--sentinel"]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def freeze(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            self.is_frozen = True

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, *command: str) -> Any:
        with redis.Redis(port=self.port, protocol=2, decode_responses=True, socket_timeout=5) as client:
            connection = client.connection_pool.get_connection()
            try:
                connection.send_command(*command)
                return connection.read_response()
            finally:
                client.connection_pool.release(connection)

    def master_port(self) -> int:
        return int(self.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)[1])
