"""Every code block of the documentation, run against one running gateway."""

import ast
import asyncio
import inspect
import json
import re
import sys
import types
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from gateway.edge.openapi_webhooks import examples
from gateway.webhooks.messages import trial_message
from sandbox.server import create_app
from sandbox.settings import SandboxSettings
from tests.docs.markdown import FILES, RUN, Block, block, blocks
from tests.gateway.stack import Stack, open_stack, settings_for
from tests.sdk.packed import install, node
from tests.servers import ValkeyServer

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # A snippet keeps its client for the life of the process, as an app does.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

GATEWAY = "http://127.0.0.1:8080"
WEBHOOK_SECRET = "whsec_" + "A" * 43 + "="
ALL = [one for one in blocks(*FILES) if one.language in RUN]
PYTHON = [one for one in ALL if one.language == "python"]
SHELL = [one for one in ALL if one.language == "sh"]
JAVASCRIPT = [one for one in ALL if one.language == "js"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(valkey: ValkeyServer) -> AsyncIterator[Stack]:
    """A gateway before the sandbox in which `alice` is connected."""
    runner = web.AppRunner(create_app(SandboxSettings(generation_delay_ms=0)), shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with open_stack(settings_for(valkey.url, f"http://127.0.0.1:{runner.addresses[0][1]}")) as stack:
            await stack.connect(user="alice", key="sk-or-v1-sandbox")
            stack.app["grant"] = await stack.grant(9)
            yield stack
    finally:
        await runner.cleanup()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty project in which the packed package is installed."""
    return install(tmp_path_factory.mktemp("snippets"))


@pytest.fixture
def environ(running: Stack, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The documented environment of an app."""
    named = {
        "PUBLIC_WATTFARE_KEY": running.app["publishableKey"],
        "WATTFARE_SECRET_KEY": running.secret,
        "WATTFARE_TEST_SECRET_KEY": running.test_secret,
        "WATTFARE_WEBHOOK_SECRET": WEBHOOK_SECRET,
    }
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    return named


def ready(code: str, stack: Stack) -> str:
    """Return code with the URLs and keys that it is given in real life."""
    keys = {"sk_live_…": stack.secret, "sk_test_…": stack.test_secret, "pk_live_…": stack.app["publishableKey"]}
    keys["gr_live_…"] = stack.app["grant"]
    for written, meant in {GATEWAY: stack.url, **keys}.items():
        code = code.replace(written, meant)
    return code


async def perform(code: str, names: dict[str, object]) -> None:
    """Run Python as a notebook does: `await` may stand at the top."""
    compiled = compile(code, "<snippet>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    function = types.FunctionType(compiled, names)
    if compiled.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        await function()
    else:
        # A snippet that waits must not keep the gateway, which is in this process, from answering.
        await asyncio.to_thread(function)


@pytest.mark.parametrize("snippet", PYTHON, ids=lambda one: one.name)
async def test_python(snippet: Block, running: Stack, environ: dict[str, str]) -> None:
    """It runs to its end."""
    code = "\n".join([*(block(name).code for name in snippet.needs), snippet.code])
    await perform(ready(code, running), {"__name__": "snippet"})


@pytest.mark.parametrize("snippet", SHELL, ids=lambda one: one.name)
async def test_shell(snippet: Block, running: Stack, environ: dict[str, str]) -> None:
    """Each command succeeds."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euxo", "pipefail", "-c", ready(snippet.code, running)), stdout=-1, stderr=-2
    )
    out, _ = await process.communicate()
    assert process.returncode in {0, 23}, out.decode()  # 23: `head` had read enough


async def test_javascript(running: Stack, environ: dict[str, str], project: Path) -> None:
    """Each block runs to its end as a module of a project with the packed package, all in one process."""
    lines = ["import { test } from 'node:test'"]
    for number, snippet in enumerate(JAVASCRIPT):
        (project / f"snippet{number}.mjs").write_text(ready(snippet.code, running))
        lines.append(f"test({snippet.name!r}, async () => {{ await import('./snippet{number}.mjs') }})")
    (project / "snippets.test.mjs").write_text("\n".join(lines))
    await node(project, "--test", "snippets.test.mjs", **environ)


async def test_the_backend_in_javascript_answers_as_its_page_expects(
    running: Stack, environ: dict[str, str], project: Path
) -> None:
    """A session, and an answer."""
    (project / "backend.mjs").write_text(ready(block("backend-js").code, running))
    (project / "try.mjs").write_text(
        "import { ask, session } from './backend.mjs'\n"
        "const post = (body) => new Request('http://app', { method: 'POST', body })\n"
        "console.log((await session(post())).status, (await (await session(post())).json()).token.length > 9)\n"
        "console.log(await (await ask(post('Say hello to the world.'))).text())\n"
    )
    assert await node(project, "try.mjs", **environ) == "200 true\nSay hello to the world.\n"


async def test_a_webhook_is_taken_as_documented(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Once for each id; one that somebody else signed is refused."""
    names: dict[str, Any] = {}
    exec(block("webhook-python").code, names)
    message = trial_message("app2222222222222222", 1_795_000_000_000)
    headers = message.headers([WEBHOOK_SECRET])
    assert [names["take"](message.body, headers) for _ in range(2)] == [204, 204]
    assert capsys.readouterr().out.count("webhook.test") == 1
    assert names["take"](message.body, message.headers([WEBHOOK_SECRET.replace("A", "B")])) == 401


async def test_the_webhooks_page_shows_what_is_sent() -> None:
    """Its examples are those of `/openapi.json`, which the sender's own code makes."""
    [page] = [file for file in FILES if file.name == "webhooks.md"]
    shown = [json.loads(one.code) for one in blocks(page) if one.language == "json"]
    assert shown == list(examples().values())


async def test_llm_answers_with_its_settings(running: Stack, environ: dict[str, str], tmp_path: Path) -> None:
    """The `llm` command, with the documented file and nothing else."""
    (tmp_path / "extra-openai-models.yaml").write_text(ready(block("llm").code, running))
    command = ("-m", "llm", "-m", "wattfare", "--no-log", "--key", running.secret, "Say hello to the world.")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command), env={"LLM_USER_PATH": str(tmp_path), "PATH": "/usr/bin:/bin"}, stdout=-1, stderr=-2
    )
    out, _ = await process.communicate()
    assert out.decode().strip() == "Say hello to the world."


async def test_the_api_page_names_every_path(running: Stack) -> None:
    """docs/api.md has every path of `/openapi.json`, and every error code."""
    async with aiohttp.ClientSession() as http, http.get(f"{running.url}/openapi.json") as answer:
        described = await answer.json()
    [text] = [file.read_text() for file in FILES if file.name == "api.md"]
    for path in described["paths"]:
        below = re.sub(r"^/v1", "", path)
        assert below in text, path
    codes = described["components"]["schemas"]["Error"]["properties"]["error"]["properties"]["code"]["enum"]
    assert [code for code in codes if f"`{code}`" not in text] == []
