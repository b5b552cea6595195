"""Real servers for tests: started, killed, frozen and thawed by the test that owns them."""

import atexit
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
import redis.asyncio

from devstore.embedded import server_binary

# On a busy machine the append-only file of a ten-minute soak takes tens of seconds to load.
READY_SECONDS = 60
# Linux uses ports from 32768 on for outgoing connections; many services have ports below 10240.
FIRST_PORT, LAST_PORT = 10_240, 32_768
# More than any test has servers; the oldest are given back so that a long run keeps its file descriptors.
MOST_CLAIMS = 200
_CLAIMS: deque[socket.socket] = deque()


class ValkeyServer:
    """A Valkey of one's own, on a unix socket in a short temp folder; with `tcp`, on a loopback port too.

    `start` after `stop` or `kill` gives the same addresses again; with `durable` the data too.
    """

    def __init__(self, *, tcp: bool = False, durable: bool = False, options: tuple[str, ...] = ()) -> None:
        # A unix socket's path may have 107 bytes; pytest's tmp_path can be longer.
        self.folder = Path(tempfile.mkdtemp(prefix="wf-"))
        self.port = free_ports(1)[0] if tcp else 0
        self.is_durable = durable
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self._log: deque[str] = deque(maxlen=50)
        self._ready = threading.Event()
        self._reader: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Redis URL of the unix socket."""
        return f"unix://{self.folder}/s"

    @property
    def tcp_url(self) -> str:
        """Redis URL of the loopback port."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The running server's process id."""
        return self._running().pid

    def start(self) -> Self:
        """Start the server and wait until it accepts commands."""
        command = [
            server_binary(),
            *("--port", str(self.port), "--bind", "127.0.0.1"),
            *("--unixsocket", str(self.folder / "s"), "--unixsocketperm", "700"),
            *("--dir", str(self.folder), "--save", ""),
            *("--appendonly", "yes" if self.is_durable else "no", "--appendfsync", "always"),
            *("--daemonize", "no", "--logfile", ""),
            *self._options,
        ]
        self._ready.clear()
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        if not self._ready.wait(READY_SECONDS) or self._process.poll() is not None:
            self.kill()
            raise RuntimeError("valkey-server did not start:\n" + "".join(self._log))
        return self

    def stop(self) -> None:
        """End it as an operator would: SIGTERM, data written."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL. A frozen server dies too."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop it from answering while its connections stay open."""
        self._running().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume a frozen server."""
        self._running().send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process

    def _end(self, how: signal.Signals) -> None:
        process = self._running()
        process.send_signal(how)
        process.wait()
        if self._reader is not None:
            self._reader.join()
        if process.stdout is not None:
            process.stdout.close()
        self._process = None

    def _read(self, process: subprocess.Popen[str]) -> None:
        """Read the log until it ends, so that the server never waits for a full pipe."""
        assert process.stdout is not None
        for line in process.stdout:
            self._log.append(line)
            # With a TCP port, this line follows the one for the port; redis-server writes it without the last word.
            if "Ready to accept connections unix" in line or ("Ready to accept connections" in line and not self.port):
                self._ready.set()
        self._ready.set()


def open_client(url: str) -> "redis.Redis | redis.RedisCluster":
    """Return a plain client for a REDIS_URL of one server or of a Cluster."""
    if url.startswith("redis+cluster:"):
        return redis.RedisCluster.from_url(url.replace("redis+cluster:", "redis:", 1))
    return redis.Redis.from_url(url)


def on_each_server(client: "redis.Redis | redis.RedisCluster", *command: str) -> None:
    """Run a command on every server behind a client."""
    if isinstance(client, redis.RedisCluster):
        for node in client.get_nodes():  # type: ignore[no-untyped-call]
            with redis.Redis(host=node.host, port=node.port) as one:
                one.execute_command(*command)
    else:
        client.execute_command(*command)  # type: ignore[no-untyped-call]


def open_async_client(url: str) -> "redis.asyncio.Redis | redis.asyncio.RedisCluster":
    """Return the same for a test that runs beside what it tests."""
    # Without `driver_info` the library reads its own version from disk for each connection.
    if url.startswith("redis+cluster:"):
        plain = url.replace("redis+cluster:", "redis:", 1)
        return redis.asyncio.RedisCluster.from_url(plain, protocol=2, driver_info=None)
    client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(url, protocol=2, driver_info=None)
    return client


def free_ports(count: int) -> list[int]:
    """Return free loopback ports, claimed for this process.

    They are below the kernel's range for outgoing connections: a port in that range can be
    taken between this call and the listener's start, and while a stopped server waits to start again.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = FIRST_PORT + secrets.randbelow(LAST_PORT - FIRST_PORT)
        if _claim(port):
            ports.append(port)
    return ports


def _claim(port: int) -> bool:
    """Claim a port among the test processes: the one that has bound the UDP port of that number may listen on it."""
    claim = socket.socket(type=socket.SOCK_DGRAM)
    try:
        claim.bind(("127.0.0.1", port))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
    except OSError:
        claim.close()
        return False
    _CLAIMS.append(claim)
    if len(_CLAIMS) > MOST_CLAIMS:
        _CLAIMS.popleft().close()
    return True


@atexit.register
def _give_back() -> None:
    for claim in _CLAIMS:
        claim.close()
