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


async def visit(page: Page, demo: str) -> None:
    """Open the demo and wait until its buttons work."""
    await page.goto(demo)
    await page.wait_for_selector("body[data-ready]")


async def ask(page: Page, text: str) -> None:
    """Send one message."""
    await page.get_by_label("Message").fill(text)
    await page.get_by_role("button", name="Send").click()


async def test_a_stranger_connects_chats_and_meets_each_state(page: Page, demo: str, tmp_path: Path) -> None:
    """Streamed, paid, and one button for what can be wrong; nothing breaks the page's own policy."""
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    await visit(page, demo)
    async with page.expect_popup() as opened:
        await page.get_by_role("button", name="Connect AI budget").click()
    popup = await opened.value
    await payer.paste_key(popup)
    await payer.press_allow(popup)
    await expect(page.locator("#left")).to_have_text("$5.00 left")
    await ask(page, "How do I stop it?")
    await expect(page.locator("#talk li.theirs")).to_contain_text("stop everything with one button.")
    await expect(page.locator("#left")).to_contain_text("left")
    assert await page.get_by_role("link", name="My budget").get_attribute("href")
    await page.get_by_text("Try what can happen").click()
    await page.get_by_role("button", name="Fail in the middle").click()
    await expect(page.locator("#talk li.failed")).to_have_count(1)
    await page.get_by_role("button", name="Spend $4.50").click()
    await expect(page.locator("#said")).to_contain_text("left this month.")
    await expect(page.locator("#mend")).to_have_text("Raise the cap")
    await page.get_by_role("button", name="Have the key refused").click()
    async with page.expect_popup() as opened:
        await page.get_by_role("button", name="Reconnect").click()
    await payer.press_allow(await opened.value)
    await expect(page.locator("#mend")).to_have_text("Raise the cap")
    await page.get_by_role("button", name="Spend $0.50").click()
    await expect(page.locator("#said")).to_have_text("Your budget for this app is used up.")
    await expect(page.get_by_label("Message")).to_be_disabled()
    async with page.expect_popup() as opened:
        await page.get_by_role("button", name="Raise the cap").click()
    await (await opened.value).close()
    await page.get_by_role("button", name="Disconnect").click()
    await expect(page.get_by_role("button", name="Connect AI budget")).to_be_visible()
    assert [fault for fault in faults if "402" not in fault] == []
    assert (tmp_path / "demo.json").stat().st_mode & 0o077 == 0


async def test_three_questions_need_no_account(page: Page, demo: str) -> None:
    """A grant pays for three, and its end has one button."""
    await visit(page, demo)
    async with page.expect_popup() as opened:
        await page.get_by_role("button", name="Allow three questions, once").click()
    popup = await opened.value
    await payer.paste_key(popup)
    await payer.press_allow(popup)
    for left in (2, 1, 0):
        await ask(page, "Is my key safe?")
        await expect(page.locator("#said")).to_have_text(f"{left} of your questions left.")
    await ask(page, "One more?")
    await expect(page.locator("#said")).to_have_text("These questions are used up.")
    await expect(page.locator("#mend")).to_have_text("Connect AI budget")
    await expect(page.locator("#talk li.theirs")).to_have_count(3)


async def test_a_no_is_said_kindly(page: Page, demo: str) -> None:
    """After a denial the welcome page is shown, with what happened."""
    await visit(page, demo)
    async with page.expect_popup() as opened:
        await page.get_by_role("button", name="Connect AI budget").click()
    await payer.deny(await opened.value)
    await expect(page.get_by_text("You said no. Nothing was connected.")).to_be_visible()
