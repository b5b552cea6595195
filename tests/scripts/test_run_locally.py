"""`make run`, for real: one start of everything, the commands beside it, a second start on its ports, its end."""

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import aiohttp

from scripts.settings import PORTS
from tests.gateway.process import ROOT, command
from tests.servers import free_ports

START_SECONDS = 60


async def test_all_of_it_starts_and_the_commands_beside_it_share_its_store_and_its_openrouter(tmp_path: Path) -> None:
    """Addresses are printed once they answer; a second start names the taken ports' variables; SIGTERM exits 0."""
    ports = {name: str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}
    told = {"WATTFARE_DATA_DIR": str(tmp_path / "data"), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    start = (sys.executable, "-m", "scripts.run_locally")
    running = await asyncio.create_subprocess_exec(*start, env={**told, **ports}, cwd=ROOT, stdout=PIPE, stderr=PIPE)
    assert running.stdout is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            said = b""
            while b"make create-app" not in said:
                line = await running.stdout.readline()
                assert line, said.decode()
                said += line
            urls = re.findall(r"^  .*(http://127\.0\.0\.1:\d+)   ", said.decode(), re.MULTILINE)
            assert sorted(urls) == sorted(f"http://127.0.0.1:{port}" for port in ports.values())
            async with aiohttp.ClientSession() as session:
                for url in urls:
                    async with session.get(url) as answer:
                        assert answer.status in {200, 404}  # The sandbox has no page of its own.
            # From another folder, with nothing but the name of the store.
            _, out, _ = await command("scripts.list_apps", "--json", variables=told, cwd=tmp_path)
            app_id = out.partition('"appId": "')[2].partition('"')[0]
            given = ("--app", app_id, "--user", "u", "--monthly-usd", "1", "--openrouter-key", "sk-or-v1-revoked-1")
            code, _, errors = await command("scripts.connect_user", *given, variables=told, cwd=tmp_path)
            assert code == 1
            assert errors.startswith("connect_user: OpenRouter does not accept this key.")
            second = await asyncio.create_subprocess_exec(*start, env={**told, **ports}, cwd=ROOT, stderr=PIPE)
            _, refused = await second.communicate()
            assert second.returncode == 1
            assert all(f"make run {name}=" in refused.decode() for name in ports)
            running.terminate()
            await running.communicate()
    finally:
        if running.returncode is None:
            running.terminate()
            await running.communicate()
    assert running.returncode == 0
