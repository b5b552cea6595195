"""A real Chromium, one for each test process, and a browser profile of its own for each test.

Pitfalls: Playwright turns popup blocking off (here it stays on); `page.goto` drops the opener (here pages navigate
themselves); COOP works only in secure contexts, which `*.localhost` is.
"""

import os
import shutil
import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, Playwright, async_playwright

from gateway.services import Services, open_services
from gateway.settings import Settings
from tests.browser.app_site import AppSite, serving
from tests.browser.stack import BrowserStack, started
from tests.servers import ValkeyServer, free_ports

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_MACOS = ("Chromium.app/Contents/MacOS/Chromium", "Google Chrome.app/Contents/MacOS/Google Chrome")
WAIT_MS = 8_000
# Pages of the address bar that Chromium loads for each window before anybody types, at 0.7 s of CPU a window.
NEVER_SHOWN = ("WebUIOmniboxPopup", "WebUIOmniboxAimPopup")
# Playwright's own list for Linux. Of this flag the last one counts, so to add to it is to repeat it.
_PLAYWRIGHT_TURNS_OFF = (
    *("AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "HttpsUpgrades"),
    *(
        "HttpsFirstBalancedModeAutoEnable",
        "LensOverlay",
        "MediaRouter",
        "PaintHolding",
        "ThirdPartyStoragePartitioning",
    ),
    *("AvoidCorsURLLoaderRestartOnRedirect", "OptimizationHints", "NetworkTimeServiceQuerying", "AimEnabled"),
    "PreconnectToSearch",
)
CHROMIUM_FLAGS = ("--no-sandbox", "--disable-features=" + ",".join((*_PLAYWRIGHT_TURNS_OFF, *NEVER_SHOWN)))


def chromium() -> str:
    """Return the browser's path. Without one the tests fail in CI, and are skipped with a warning elsewhere."""
    named = os.environ.get("WATTFARE_CHROMIUM")
    for name in [named] if named else [*_NAMES, *(f"/Applications/{path}" for path in _MACOS)]:
        found = shutil.which(name)
        if found:
            return found
    missing = "No Chromium found: tests/browser cannot run. Install one or set WATTFARE_CHROMIUM."
    if os.environ.get("CI") == "true":
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def playwright_driver() -> AsyncIterator[Playwright]:
    async with async_playwright() as driver:
        yield driver


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(playwright_driver: Playwright) -> AsyncIterator[Browser]:
    """One Chromium with its popup blocker on."""
    running = await playwright_driver.chromium.launch(
        executable_path=chromium(), args=CHROMIUM_FLAGS, ignore_default_args=["--disable-popup-blocking"]
    )
    yield running
    await running.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def app_site() -> AsyncIterator[AppSite]:
    """The app, and behind it gateway, consent site and stand-in OpenRouter."""
    chromium()
    [port] = free_ports(1)
    origins = [f"http://app.localhost:{port}"]
    with ValkeyServer() as valkey:
        async with started(valkey.url, app_origins=origins) as stack, serving(stack, port) as site:
            yield site


@pytest.fixture
def stack(app_site: AppSite) -> BrowserStack:
    return app_site.stack


@pytest_asyncio.fixture(loop_scope="session")
async def services(stack: BrowserStack) -> AsyncIterator[Services]:
    """The stores that gateway and consent site work with."""
    async with open_services(Settings.load(stack.environ)) as opened:
        yield opened


@pytest.fixture
def user() -> str:
    """A user that no other test has."""
    return f"user-{uuid.uuid4().hex[:12]}"


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A fresh profile."""
    profile = await browser.new_context()
    profile.set_default_timeout(WAIT_MS)
    yield profile
    await profile.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page(context: BrowserContext) -> Page:
    """A fresh tab."""
    return await context.new_page()
