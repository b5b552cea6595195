"""`wattfare/react` from the packed package in Chromium: server-rendered, in StrictMode, in two tabs."""

import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, Page, expect

from tests.browser import payer
from tests.browser.app_site import AppSite, Json
from tests.sdk.packed import install, node

HERE = Path(__file__).parent
pytestmark = pytest.mark.asyncio(loop_scope="session")


@dataclass
class ReactSite:
    """The app's pages; `asked`: the paths of all session and connection requests; `faults`: errors in the page."""

    site: AppSite
    built: Json
    context: BrowserContext
    asked: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    async def open(self, user: str, *, kind: str = "", load_on_mount: bool = True) -> Page:
        """Open the app for a user in a new tab. `kind`: how the session URL answers, see `AppSite`."""
        stack = self.site.stack
        session = f"/token?user={user}&mode=live&app=acme&as={kind}"
        options: Json = {
            "publishableKey": stack.keys["publishableKey"],
            "session": session,
            "baseURL": stack.gateway,
            "consentURL": stack.consent,
            "loadOnMount": load_on_mount,
        }
        markup = self.built["markups"][json.dumps(load_on_mount)]
        self.site.pages[user] = (
            f'<!doctype html><html lang="en"><title>Acme</title><link rel="icon" href="data:,">'
            f'<div id="root">{markup}</div><script type="application/json" id="options">{json.dumps(options)}'
            f'</script><script type="module">{self.built["script"]}</script></html>'
        )
        page = await self.context.new_page()
        page.on("request", lambda request: self.asked.append(request.url.partition("?")[0].rpartition("/")[2]))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda message: self.faults.append(message.text) if message.type == "error" else None)
        await page.goto(f"{self.site.origin}/pages/{user}")
        return page


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def built(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """The app's script and markup, made in a project with the packed package."""
    project = install(tmp_path_factory.mktemp("react"))
    for name in ("react_app.mjs", "react_build.mjs"):
        shutil.copy(HERE / name, project / name)
    made: Json = json.loads(await node(project, "react_build.mjs"))
    return made


@pytest_asyncio.fixture(loop_scope="session")
async def react(app_site: AppSite, built: Json, context: BrowserContext) -> AsyncIterator[ReactSite]:
    """The app in a fresh profile."""
    yield ReactSite(app_site, built, context)


async def shows(page: Page, state: str) -> None:
    """Wait until the hook returns these values: `connected loading remainingUsd error isNotConnected`."""
    await expect(page.locator("#state")).to_have_text(state)


async def test_a_payer_connects_sees_the_budget_shrink_and_disconnects(react: ReactSite, user: str) -> None:
    """One session and one look for all of StrictMode's mounts; no hydration fault; the bar is a meter with a name."""
    page = await react.open(user)
    await shows(page, "false false 0 no error false")
    assert (react.asked.count("token"), react.asked.count("connections")) == (1, 1)
    async with page.expect_popup() as opened:
        await page.get_by_role("button", name="Connect AI budget").click()
    popup = await opened.value
    await expect(page.locator("button.connect")).to_have_attribute("aria-busy", "true")
    await payer.paste_key(popup)
    await payer.press_allow(popup)
    await shows(page, "true false 5 no error false")
    meter = page.get_by_role("meter", name="AI budget")
    await expect(meter).to_have_attribute("value", "5")
    await expect(page.locator(".bar")).to_have_attribute("data-state", "ok")
    await expect(page.locator(".bar span")).to_have_text("$5.00 left of $5.00 this month")
    await expect(page.get_by_text("Your budget pays.")).to_be_visible()
    assert (await react.site.chat(user))[0] == 200
    await page.get_by_role("button", name="Refresh").click()
    await expect(page.locator("#state")).to_contain_text("4.99")
    await page.get_by_role("button", name="Disconnect").click()
    await shows(page, "false false 0 no error false")
    await expect(meter).to_have_count(0)
    assert react.faults == []


async def test_another_tab_learns_of_it(react: ReactSite, user: str) -> None:
    """What connects in one tab of the app shows in the other."""
    first, second = await react.open(user), await react.open(user)
    await shows(second, "false false 0 no error false")
    async with first.expect_popup() as opened:
        await first.get_by_role("button", name="Again").click()
    popup = await opened.value
    await payer.paste_key(popup)
    await payer.press_allow(popup)
    await shows(second, "true false 5 no error false")
    assert react.faults == []


async def test_a_no_is_no_error(react: ReactSite, user: str) -> None:
    """After a denial the button is shown again; without `loadOnMount` nothing is requested before."""
    page = await react.open(user, load_on_mount=False)
    await shows(page, "false false 0 no error false")
    assert "connections" not in react.asked
    async with page.expect_popup() as opened:
        await page.get_by_role("button", name="Connect AI budget").click()
    await payer.deny(await opened.value)
    await shows(page, "false false 0 no error false")
    await expect(page.get_by_role("alert")).to_have_count(0)
    assert react.faults == []


async def test_a_failure_is_said_and_thrown_at_nobody(react: ReactSite, user: str) -> None:
    """A session URL that fails: the hook has the error, the button an alert, and no rejection is left unhandled."""
    page = await react.open(user, kind="500")
    await shows(page, "false false 0 session_failed false")
    await expect(page.get_by_role("alert")).to_contain_text("session endpoint")
    await page.get_by_role("button", name="Refresh").click()
    await shows(page, "false false 0 session_failed false")
    assert [fault for fault in react.faults if "500" not in fault] == []
