"""The quickstart, done as it says: its page and its backend in an empty folder, a new app, a payer with a browser."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from gateway.services import Services
from gateway.settings import Settings
from scripts.next_steps import filled_snippets
from tests.browser import payer
from tests.browser.stack import BrowserStack, answers
from tests.servers import free_ports

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def acme(stack: BrowserStack, services: Services, tmp_path: Path) -> AsyncIterator[str]:
    """The address of the app that the quickstart makes, run by the command that it gives."""
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    app = await services.apps.create("Acme", [url])
    snippets = filled_snippets(app, Settings.load(stack.environ))
    (tmp_path / "index.html").write_text(snippets["page"])
    (tmp_path / "app.py").write_text(snippets["backend"])
    environ = {**os.environ, "WATTFARE_SECRET_KEY": app["secretKey"], "PYTHONPATH": stack.environ["PYTHONPATH"]}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "app:app", "--port", str(port), "--log-level", "warning"),
        cwd=tmp_path,
        env={**environ, "PYTHONPATH": f"{environ['PYTHONPATH']}{os.pathsep}{environ['PYTHONPATH']}/sdk/python"},
    )
    try:
        # It imports FastAPI and OpenAI's library: seconds of CPU, which other tests may have.
        assert await answers(process, url, seconds=80)
        yield url
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def test_the_quickstart_leads_to_a_paid_answer(page: Page, acme: str) -> None:
    """Connect, ask, read the answer, see what is left; a refusal is said in words."""
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
