"""axe-core finds nothing in any state that `make screenshots` photographs, in light and dark, narrow and wide.

Nor does any of them scroll sideways: not between these widths, not with text of twice the size, not from right to left.
"""

import re
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser import payer
from tests.browser.app_site import AppSite
from tests.browser.stack import ROOT
from tests.consent_web.world import World, a_world
from tests.screens.board_states import BOARD_STEPS
from tests.screens.popup_states import POPUP_STEPS
from tests.screens.staging import APP_ORIGIN, POPUP, Staging, Step
from tests.servers import ValkeyServer

pytestmark = pytest.mark.asyncio(loop_scope="session")

SMALL, LARGE = (320, 360, 480), (320, 768, 1100)
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# The rules of these tags that look at colours; a dark scheme changes nothing else.
COLOUR_RULES = ["color-contrast", "link-in-text-block"]
# All styles are in the page, so there is none to load first; what passes is neither listed nor handed over.
RUN = """async runOnly => {
  const { violations } = await axe.run({ runOnly, preload: false, resultTypes: ['violations'] })
  return violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)])
}"""
# What makes a page scroll sideways: the innermost elements that reach beyond its edges, if it does.
SIDEWAYS = """() => document.documentElement.scrollWidth <= innerWidth ? [] :
  [...document.body.querySelectorAll('*')].filter((element) => {
    const { left, right } = element.getBoundingClientRect()
    return (right > innerWidth || left < 0) && !element.closest('.wide')
  }).map((element) => element.outerHTML.slice(0, 120)).slice(-3)"""


@cache
def axe() -> str:
    return (ROOT / "node_modules/axe-core/axe.min.js").read_text()


async def inspect(page: Page, name: str) -> None:
    """Fail on any violation and on sideways scrolling."""
    # By the browser's debugger, which the page's policy does not bind.
    if not await page.evaluate("'axe' in globalThis"):
        await page.evaluate(axe())
    widths = LARGE if name.startswith("board-") else SMALL
    for width in widths:
        await page.set_viewport_size({"width": width, "height": 640})
        # A run takes a tenth of a second or more, and there are a hundred states: a scheme changes only colours, and
        # those do not change with the width.
        if width == widths[0]:
            await page.emulate_media(color_scheme="dark", reduced_motion="reduce")
            assert await page.evaluate(RUN, COLOUR_RULES) == [], (name, "dark", width)
            await page.emulate_media(color_scheme="light", reduced_motion="reduce")
        if width in {widths[0], widths[-1]}:
            assert await page.evaluate(RUN, TAGS) == [], (name, width)
        assert await page.evaluate(SIDEWAYS) == [], (name, width)
        await page.evaluate("document.documentElement.dir = 'rtl'")
        assert await page.evaluate(SIDEWAYS) == [], (name, width, "right to left")
        await page.evaluate("document.documentElement.dir = ''")
    await page.evaluate("document.documentElement.style.fontSize = '200%'")
    for width in (480, 768):
        await page.set_viewport_size({"width": width, "height": 640})
        assert await page.evaluate(SIDEWAYS) == [], (name, width, "text of twice the size")
    await page.evaluate("document.documentElement.style.fontSize = ''")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A consent site in this process, so that a state can be staged from the inside too."""
    folder: Path = tmp_path_factory.mktemp("screens")
    with ValkeyServer() as valkey:
        async with a_world(valkey.url, folder) as made:
            yield made


@pytest.mark.timeout(180)
@pytest.mark.parametrize("step", [*POPUP_STEPS, *BOARD_STEPS], ids=lambda step: step.__name__)
async def test_no_state_keeps_anybody_out(browser: Browser, world: World, step: Step) -> None:
    """Every state of the step, by the very list that is photographed."""
    keys = await world.site.apps.create("Acme Notes", [APP_ORIGIN], [f"{APP_ORIGIN}/"])
    context = await browser.new_context(viewport={"width": POPUP[0], "height": POPUP[1]}, reduced_motion="reduce")
    context.set_default_timeout(10_000)
    staging = Staging(world, keys["appId"], await context.new_page(), inspect)
    await staging.normal()
    await step(staging)
    await context.close()


@pytest.mark.parametrize("name", ["quickstart", "api"])
async def test_the_documentation_keeps_nobody_out(page: Page, world: World, name: str) -> None:
    """Code and tables that are wider than the page scroll by themselves, with the keyboard too."""
    await page.goto(f"{world.base}/docs/{name}")
    await inspect(page, f"board-docs-{name}")


async def test_every_screen_is_staged() -> None:
    """A screen that is added to the popup without a state that shows it fails here."""
    text = (ROOT / "consent_web/static/screens.js").read_text()
    screens = re.findall(r"^  (\w+): \{", text.partition("const SCREENS = {")[2].partition("\n}")[0], re.MULTILINE)
    staged = (ROOT / "tests/screens/popup_states.py").read_text()
    shown = {"opening": "popup-opening", "funding": "No key was saved", "answered_funding": "Your key is saved"}
    assert len(screens) > 20
    assert [name for name in screens if shown.get(name, name) not in staged] == []


async def test_the_keyboard_alone_decides(page: Page, app_site: AppSite, user: str) -> None:
    """Tab reaches everything in the order of the page, Escape approves nothing, and Enter on Allow connects."""
    await payer.visit(page, app_site, user, mode="test")
    popup = await payer.press_connect(page)
    await expect(payer.allow_button(popup)).to_have_attribute("aria-disabled", "false")
    await popup.keyboard.press("Escape")
    reached: list[str] = []
    while "allow" not in reached and len(reached) < 20:
        await popup.keyboard.press("Tab")
        reached.append(
            await popup.evaluate("document.activeElement.dataset.answer ?? document.activeElement.textContent")
        )
    assert reached[-2:] == ["Don’t allow", "allow"]
    # Each key started the wait anew.
    await expect(payer.allow_button(popup)).to_have_attribute("aria-disabled", "false")
    await popup.keyboard.press("Enter")
    assert (await payer.outcome(page))["connected"] is True


async def test_trying_again_after_being_offline(page: Page, app_site: AppSite, user: str) -> None:
    """The screen without a network offers to try again, and that works."""
    await page.context.route("**/consent/attempts", lambda route: route.abort())
    await payer.visit(page, app_site, user, mode="test")
    popup = await payer.press_connect(page)
    await popup.locator("[data-state=offline]").wait_for()
    await page.context.unroute("**/consent/attempts")
    await popup.get_by_role("button", name="Try again").click()
    await payer.allow_button(popup).wait_for()
