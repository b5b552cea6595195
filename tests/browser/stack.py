"""The whole of Wattfare for a browser: gateway, consent site and stand-in OpenRouter as processes, and one app."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.servers import free_ports

ROOT = Path(__file__).parents[2]
READY_SECONDS = 20
APP_NAME = "Acme Notes"
HOSTILE_NAME = "<img src=x onerror=globalThis.pwned=1>" + "Paypal" * 6


@dataclass(frozen=True, slots=True)
class BrowserStack:
    """Where everything is. `keys`: what `scripts.create_app` printed; `hostile_keys`: for an app of that name.

    `environ` is what every process was given.
    """

    gateway: str
    consent: str
    openrouter: str
    redis_url: str
    keys: dict[str, str]
    hostile_keys: dict[str, str]
    environ: dict[str, str]

    def keys_of(self, app: str) -> dict[str, str]:
        """Return the keys of `acme` or `hostile`."""
        return self.hostile_keys if app == "hostile" else self.keys


@contextlib.asynccontextmanager
async def started(redis_url: str, *, app_origins: list[str]) -> AsyncIterator[BrowserStack]:
    """Start all processes on free ports and register the app; end them all afterwards.

    The consent site is at `localhost`, the only loopback name that OpenRouter redirects to; apps are at `*.localhost`,
    so that a browser sees two sites.
    """
    ports = free_ports(3)
    gateway, consent, openrouter = (f"http://localhost:{port}" for port in ports)
    with tempfile.TemporaryDirectory(prefix="wf-browser-") as folder:
        environ = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "REDIS_URL": redis_url,
            "OPENROUTER_BASE_URL": openrouter,
            "WATTFARE_PUBLIC_URL": gateway,
            "WATTFARE_CONSENT_URL": consent,
            "WATTFARE_DATA_DIR": folder,
            "WATTFARE_LOG_LEVEL": "warning",
            # One machine runs the browser beside it: a slow answer is no outage.
            "WATTFARE_REDIS_DEADLINE_MS": "2000",
            "SANDBOX_GENERATION_DELAY_MS": "0",
        }
        keys, hostile_keys = await asyncio.gather(
            *(_create_app(environ, name, app_origins) for name in (APP_NAME, HOSTILE_NAME))
        )
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(running("sandbox", ports[2], environ, f"{openrouter}/api/v1/models"))
            services = [("gateway", ports[0], f"{gateway}/healthz"), ("consent_web", ports[1], f"{consent}/consent")]
            for module, port, probe in services:
                await stack.enter_async_context(running(module, port, environ, probe))
            yield BrowserStack(gateway, consent, openrouter, redis_url, keys, hostile_keys, environ)


async def _create_app(environ: dict[str, str], name: str, origins: list[str]) -> dict[str, str]:
    listed = [argument for origin in origins for argument in ("--origin", origin, "--return-url", f"{origin}/?*")]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scripts.create_app", "--name", name, *listed, "--json"),
        env=environ,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    keys: dict[str, str] = json.loads(out)
    return keys


@contextlib.asynccontextmanager
async def running(module: str, port: int, environ: dict[str, str], probe: str) -> AsyncIterator[None]:
    """Run `python -m module` on `port` while `probe` answers 200; kill it afterwards."""
    with tempfile.TemporaryFile() as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module),
            env={**environ, "HOST": "127.0.0.1", "PORT": str(port)},
            stdout=log,
            stderr=log,
        )
        try:
            if not await _answers(process, probe):
                log.seek(0)
                raise RuntimeError(f"{module} did not start:\n{log.read().decode()}")
            yield
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
            await process.wait()


async def _answers(process: asyncio.subprocess.Process, probe: str) -> bool:
    deadline = asyncio.get_running_loop().time() + READY_SECONDS
    async with aiohttp.ClientSession() as session:
        while process.returncode is None and asyncio.get_running_loop().time() < deadline:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(probe) as response:
                    if response.status == 200:
                        return True
            # Another process opens its port when it is ready; there is no event for that.
            await asyncio.sleep(0.05)
    return False
