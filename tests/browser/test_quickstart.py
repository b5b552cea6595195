"""The quickstart, followed step by step: its page and backend in an empty folder, a new app, a payer's browser."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvicorn
from playwright.async_api import Page, expect

from gateway.services import Services
from gateway.settings import Settings
from scripts.next_steps import filled_snippets
from tests.browser import payer
from tests.browser.stack import BrowserStack
from tests.gateway.stack import PATIENCE_SECONDS
from tests.servers import free_ports

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def acme(
    stack: BrowserStack, services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[str]:
    """The address of the app that the quickstart makes, served by the server that it names."""
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    app = await services.apps.create("Acme", [url])
    snippets = filled_snippets(app, Settings.load(stack.environ))
    (tmp_path / "index.html").write_text(snippets["page"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WATTFARE_SECRET_KEY", app["secretKey"])
    made: dict[str, Any] = {}
    exec(snippets["backend"], made)
    config = uvicorn.Config(made["app"], port=port, log_level="warning", ws="none", lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not server.started:
            await asyncio.sleep(0.01)
    yield url
    server.should_exit = True
    await serving
    await made["wattfare"].close()


async def test_the_quickstart_leads_to_a_paid_answer(page: Page, acme: str) -> None:
    """Connect, ask, read the answer, see the remaining amount; a refusal is shown as text."""
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    async with page.expect_response("**/connections"):
        await page.goto(acme)
    async with page.expect_popup() as opened:
        await page.get_by_role("button", name="Connect AI budget").click()
    popup = await opened.value
    await payer.paste_key(popup)
    await payer.press_allow(popup)
    await expect(page.locator("#left")).to_have_text("$5.000000 left")
    await page.get_by_label("Question").fill("Say hello to the world.")
    await page.get_by_role("button", name="Ask").click()
    await expect(page.get_by_role("status")).to_have_text("Say hello to the world.")
    await expect(page.locator("#left")).not_to_have_text("$5.000000 left")
    assert faults == []
