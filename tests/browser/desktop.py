"""A plain Chromium on an X server of its own, driven by X events alone: what focus and input really do.

Playwright emulates focus, so a test of it proves nothing about a window that is behind. The debugger only looks here.
"""

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.browser.conftest import NEVER_SHOWN, chromium

SCREEN = (1280, 900)
_START_SECONDS = 20
_WAIT_SECONDS = 10
# What a browser does by itself in the background is no part of a test.
_QUIET = (
    *("--no-first-run", "--no-default-browser-check", "--disable-background-networking", "--disable-sync"),
    "--disable-features=" + ",".join(NEVER_SHOWN),
)


class Moved(Exception):
    """The page navigated during the evaluation."""


@dataclass
class Seen:
    """A window's page, looked at by the debugger."""

    _socket: aiohttp.ClientWebSocketResponse
    _count: int = 0

    async def ask(self, expression: str) -> Any:
        """Return the value of an expression in the page, awaiting promises. Raises Moved."""
        self._count += 1
        asked = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        await self._socket.send_json({"id": self._count, "method": "Runtime.evaluate", "params": asked})
        async with asyncio.timeout(_WAIT_SECONDS):
            while (answer := await self._socket.receive_json()).get("id") != self._count:
                pass
        if "error" in answer:
            raise Moved
        assert "exceptionDetails" not in answer["result"], answer
        return answer["result"]["result"].get("value")

    async def until(self, condition: str) -> Any:
        """Wait until an expression is true, evaluated at each frame, even across a navigation."""
        look = f"const look = () => ({condition}) ? done() : requestAnimationFrame(look)"
        while True:
            with contextlib.suppress(Moved):
                return await self.ask(f"new Promise((done) => {{ {look}; look() }})")


@dataclass
class Desktop:
    """The screen: its input by `xdotool`, its windows by the debugger's port."""

    environ: Mapping[str, str]
    port: int
    http: aiohttp.ClientSession

    async def do(self, *words: str) -> None:
        """Run xdotool: `do("key", "Return")`."""
        process = await asyncio.create_subprocess_exec("xdotool", *words, env=dict(self.environ))
        assert await process.wait() == 0

    async def open(self, url: str) -> Seen:
        """Open a tab in the main window."""
        async with self.http.put(f"http://127.0.0.1:{self.port}/json/new?{url}") as answer:
            return await self._see(await answer.json())

    async def window(self, start: str) -> Seen:
        """Wait for the window whose URL starts with the prefix, and return it."""
        async with asyncio.timeout(_WAIT_SECONDS):
            while True:
                async with self.http.get(f"http://127.0.0.1:{self.port}/json/list") as answer:
                    for target in await answer.json():
                        if target["type"] == "page" and target["url"].startswith(start):
                            return await self._see(target)
                # The debugger's list sends no notifications.
                await asyncio.sleep(0.05)

    async def close(self, start: str) -> None:
        """Close every page whose URL starts with the prefix."""
        async with self.http.get(f"http://127.0.0.1:{self.port}/json/list") as answer:
            targets = await answer.json()
        for target in targets:
            if target["url"].startswith(start):
                await self.http.get(f"http://127.0.0.1:{self.port}/json/close/{target['id']}")

    async def _see(self, target: dict[str, str]) -> Seen:
        return Seen(await self.http.ws_connect(target["webSocketDebuggerUrl"]))


def tools() -> None:
    """Make sure that Xvfb and xdotool are there: missing, they fail the test in CI and skip it elsewhere."""
    missing = [name for name in ("Xvfb", "xdotool") if shutil.which(name) is None]
    if missing:
        said = f"No {' and no '.join(missing)}: real focus cannot be tested. apt-get install xvfb xdotool."
        if os.environ.get("CI") == "true":
            pytest.fail(said, pytrace=False)
        pytest.skip(said)


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Desktop]:
    """Start an X server and a Chromium on it; end both afterwards."""
    tools()
    with tempfile.TemporaryDirectory(prefix="wf-desktop-") as folder:
        async with contextlib.AsyncExitStack() as stack:
            environ = {**os.environ, "DISPLAY": await _x_server(stack), "HOME": folder}
            profile = Path(folder) / "profile"
            _fill_screen(profile / "Default" / "Preferences")
            await _start(
                stack,
                *(chromium(), "--no-sandbox", "--remote-debugging-port=0", f"--user-data-dir={profile}", *_QUIET),
                "about:blank",
                environ=environ,
            )
            port = await _port(profile / "DevToolsActivePort")
            http = await stack.enter_async_context(aiohttp.ClientSession())
            yield Desktop(environ, port, http)


def _fill_screen(preferences: Path) -> None:
    """Have the first window cover the screen. By a flag, every popup would be as large."""
    preferences.parent.mkdir(parents=True)
    placed = {"left": 0, "top": 0, "right": SCREEN[0], "bottom": SCREEN[1], "maximized": False}
    preferences.write_text(json.dumps({"browser": {"window_placement": placed}}))


async def _x_server(stack: contextlib.AsyncExitStack) -> str:
    """Start Xvfb on a free display, and return its name once it accepts clients."""
    reader, writer = os.pipe()
    stack.callback(os.close, reader)
    command = ("Xvfb", "-displayfd", str(writer), "-screen", "0", f"{SCREEN[0]}x{SCREEN[1]}x24", "-nolisten", "tcp")
    await _start(stack, *command, environ=os.environ, pass_fds=(writer,))
    os.close(writer)
    number = await asyncio.wait_for(asyncio.to_thread(os.read, reader, 16), _START_SECONDS)
    return f":{number.decode().strip()}"


async def _start(
    stack: contextlib.AsyncExitStack, *command: str, environ: Mapping[str, str], pass_fds: tuple[int, ...] = ()
) -> None:
    """Start a process that ends with the stack."""
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *command, env=dict(environ), pass_fds=pass_fds, stdout=quiet, stderr=quiet
    )

    async def end() -> None:
        if process.returncode is None:
            process.kill()
        await process.wait()

    stack.push_async_callback(end)


async def _port(file: Path) -> int:
    """Return the port that Chromium wrote down."""
    async with asyncio.timeout(_START_SECONDS):
        while not file.exists() or "\n" not in file.read_text():
            await asyncio.sleep(0.05)
    return int(file.read_text().split()[0])
