"""Photograph every state of the consent site, light and dark, into `screenshots/`: `make screenshots`."""

import asyncio
import shutil
import tempfile
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright

from tests.consent_web.world import World, a_world
from tests.screens.board_states import BOARD_STEPS
from tests.screens.popup_states import POPUP_STEPS
from tests.screens.staging import APP_ORIGIN, POPUP, Staging, Step

FOLDER = Path(__file__).parents[2] / "screenshots"
SCHEMES = ("light", "dark")
SMALL = ((320, 600), (360, 600), (480, 720))
LARGE = ((320, 640), (768, 900), (1100, 900))


async def photograph(page: Page, name: str) -> None:
    """Save what is in the window, in both schemes and all sizes; of the dashboard's pages their whole length."""
    is_board = name.startswith("board-")
    for width, height in LARGE if is_board else SMALL:
        await page.set_viewport_size({"width": width, "height": height})
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
            path = FOLDER / f"{name}.{width}.{scheme}.png"
            await page.screenshot(path=path, full_page=is_board, animations="disabled")


async def stage(world: World, browser: Browser, step: Step) -> None:
    """Go through one step in a window of its own."""
    keys = await world.site.apps.create("Acme Notes", [APP_ORIGIN], [f"{APP_ORIGIN}/"])
    context = await browser.new_context(viewport={"width": POPUP[0], "height": POPUP[1]}, reduced_motion="reduce")
    staging = Staging(world, keys["appId"], await context.new_page(), photograph)
    await staging.normal()
    await step(staging)
    await context.close()


async def main() -> None:
    """Make every photograph anew."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with tempfile.TemporaryDirectory() as folder:
        async with a_world("", Path(folder)) as world, async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
            for step in (*POPUP_STEPS, *BOARD_STEPS):
                await stage(world, browser, step)
            await browser.close()
    print(f"{len(list(FOLDER.iterdir()))} photographs in {FOLDER.name}/")


if __name__ == "__main__":
    asyncio.run(main())
