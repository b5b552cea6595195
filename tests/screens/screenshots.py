"""Photograph every state of the consent site, light and dark, into `screenshots/`: `make screenshots`.

`contact-popup.png` and `contact-board.png` show all of them at once.
"""

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
# Of the most informative width, in both colour schemes.
SHEETS = {"popup": 360, "board": 768}
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


async def contact_sheet(page: Page, kind: str, width: int) -> None:
    """Put all photographs of one width beside each other, each with its name, into `contact-….png`."""
    files = sorted(FOLDER.glob(f"*.{width}.*.png"))
    shown = [file for file in files if file.name.startswith("board-") == (kind == "board")]
    figures = "".join(f"<figure><img src='{file.name}'><figcaption>{file.stem}</figcaption></figure>" for file in shown)
    style = f"body {{ margin: 8px; font: 12px sans-serif; columns: {1800 // (width // 2 + 20)} }}"
    style += (
        f"figure {{ margin: 0 0 12px; break-inside: avoid }} img {{ width: {width // 2}px; border: 1px solid #888 }}"
    )
    sheet = FOLDER / "sheet.html"
    sheet.write_text(f"<!doctype html><style>{style}</style>{figures}")
    await page.set_viewport_size({"width": 1800, "height": 900})
    await page.goto(sheet.as_uri())
    await page.screenshot(path=FOLDER / f"contact-{kind}.png", full_page=True)
    sheet.unlink()


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
            for kind, width in SHEETS.items():
                await contact_sheet(await browser.new_page(), kind, width)
            await browser.close()
    print(f"{len(list(FOLDER.iterdir()))} photographs in {FOLDER.name}/")


if __name__ == "__main__":
    asyncio.run(main())
