"""The demo app, as a stranger meets it after `make run`."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.browser import payer
from tests.browser.stack import BrowserStack, running
from tests.servers import free_ports

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def demo(stack: BrowserStack, tmp_path: Path) -> AsyncIterator[str]:
    """The demo's address; its keys are in `tmp_path`."""
    [port] = free_ports(1)
    environ = {**stack.environ, "DEMO_KEYS_FILE": str(tmp_path / "demo.json")}
    async with running("demo", port, environ, f"http://127.0.0.1:{port}/"):
        yield f"http://127.0.0.1:{port}"


async def test_a_stranger_connects_and_chats(page: Page, demo: str, tmp_path: Path) -> None:
    """Connect, ask, read the answer as it streams, see what is left; nothing breaks the page's own policy."""
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    await page.goto(demo)
    async with page.expect_popup() as opened:
        await page.get_by_role("button", name="Connect AI budget").click()
    popup = await opened.value
    await payer.paste_key(popup)
    await payer.press_allow(popup)
    await page.get_by_label("Message").fill("Say hello.")
    await page.get_by_role("button", name="Send").click()
    answer = page.locator("#talk li.theirs")
    await expect(answer).not_to_be_empty()
    await expect(page.locator("#left")).to_contain_text("left")
    assert await page.locator(".failed").count() == 0
    assert faults == []
    assert (tmp_path / "demo.json").stat().st_mode & 0o077 == 0


async def test_a_no_is_said_kindly(page: Page, demo: str) -> None:
    """A payer who says no stays on the welcome page, which says what happened."""
    await page.goto(demo)
    async with page.expect_popup() as opened:
        await page.get_by_role("button", name="Connect AI budget").click()
    await payer.deny(await opened.value)
    await expect(page.get_by_text("You said no. Nothing was connected.")).to_be_visible()
