"""Allow accepts only a person's deliberate press: real focus and input, as X events, in a plain Chromium."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.browser import attacker, desktop
from tests.browser.app_site import AppSite
from tests.browser.desktop import Desktop, Seen

pytestmark = pytest.mark.asyncio(loop_scope="session")

# The popup's position on the screen, and its inner size.
LEFT, TOP, WIDTH, HEIGHT = 420, 120, 360, 600
# What an app's page does: it opens the window inside the first key or click, and answers its hello.
OPEN = """
(url, size) => {
  for (const name of ['keydown', 'mousedown'])
    addEventListener(name, () => { globalThis.w ??= open(url, '', `popup,${size}`) }, true)
  addEventListener('message', ({ source, origin, data }) => {
    source.postMessage({ ns: 'wattfare', v: 1, type: 'opener', nonce: data.nonce }, origin)
    globalThis.isAnswered = true
  })
}
"""
# Another fragment every 250 ms, from shortly after the question is shown.
FRAGMENTS = """
(url) => {
  const names = ['allow', 'main', 'time', 'amount', 'answers', '', ':~:text=Allow']
  let count = 0
  addEventListener('message', () => setTimeout(() => {
    globalThis.timer ??= setInterval(() => { w.location = url + '#' + names[count++ % names.length] }, 250)
  }, 600))
}
"""
ALLOW = "document.querySelector('[data-answer=allow]')"
ARMED = f"{ALLOW}?.ariaDisabled === 'false'"
# The middle of Allow on the screen: what is around the page is as wide left as right, and all of the rest is above.
SPOT = f"""(() => {{
  const {{ left, top, width, height }} = {ALLOW}.getBoundingClientRect()
  const [x, y] = [screenX + (outerWidth - innerWidth) / 2, screenY + outerHeight - innerHeight]
  return [x + left + width / 2, y + top + height / 2]
}})()"""
ASKED = "performance.getEntriesByType('resource').filter(({ name }) => name.endsWith('/approve')).length"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def screen() -> AsyncIterator[Desktop]:
    """One X server with a browser for all tests of this file."""
    async with desktop.running() as started:
        yield started


@pytest_asyncio.fixture(loop_scope="session")
async def game(screen: Desktop, app_site: AppSite, user: str) -> AsyncIterator[Seen]:
    """The app's page in front, which real input reaches."""
    page = await screen.open(app_site.url(user=user, mode="test"))
    await page.until("globalThis.ready && document.hasFocus()")
    await page.ask("addEventListener('mousemove', () => { globalThis.isReached = true }, { once: true })")
    async with asyncio.timeout(10):
        while not await page.ask("globalThis.isReached"):
            await screen.do("mousemove_relative", "--", "-3", "-3", "sleep", "0.05")
    yield page
    await screen.close(app_site.stack.consent)
    await screen.close(app_site.origin)


async def set_trap(page: Seen, app_site: AppSite, user: str, *, width: int = WIDTH, height: int = HEIGHT) -> None:
    """Have the page open the popup at its next key or click."""
    url, _ = await attacker.consent_url(app_site, user)
    size = f"left={LEFT},top={TOP},width={width},height={height}"
    await page.ask(f"({OPEN})({url!r}, {size!r})")


async def spot_of(screen: Desktop, page: Seen, app_site: AppSite, user: str) -> tuple[str, str]:
    """Return where Allow will stand on the screen, by looking at a window that is then closed."""
    await set_trap(page, app_site, user)
    await screen.do("key", "a")
    popup = await screen.window(app_site.stack.consent)
    await popup.until(ARMED)
    x, y = await popup.ask(SPOT)
    await screen.close(app_site.stack.consent)
    await page.until("w.closed && document.hasFocus()")
    url, _ = await attacker.consent_url(app_site, user)
    await page.ask(
        f"globalThis.w = undefined; ({OPEN})({url!r}, 'left={LEFT},top={TOP},width={WIDTH},height={HEIGHT}')"
    )
    return str(round(x)), str(round(y))


async def test_a_person_gets_through(screen: Desktop, game: Seen, app_site: AppSite, user: str) -> None:
    """Moving the mouse in, waiting a moment and pressing once is accepted: other tests' refusals are not trivial."""
    await set_trap(game, app_site, user)
    await screen.do("key", "a")
    popup = await screen.window(app_site.stack.consent)
    await popup.until(ARMED)
    x, y = map(str, map(round, await popup.ask(SPOT)))
    await screen.do("mousemove", x, y, "click", "1")
    await game.until("w.closed")
    assert (await app_site.status(user, mode="test"))["connected"] is True


async def test_a_held_key_allows_nothing_through_fragments(
    screen: Desktop, game: Seen, app_site: AppSite, user: str
) -> None:
    """Enter held while the page steers the window's fragment: no control is focused, and no repeat is an answer."""
    await set_trap(game, app_site, user)
    await game.ask(f"({FRAGMENTS})({app_site.stack.consent + '/consent'!r})")
    await screen.do("keydown", "Return", "sleep", "4", "keyup", "Return")
    popup = await screen.window(app_site.stack.consent)
    assert await game.ask("Boolean(globalThis.timer)")
    assert await popup.ask(f"[{ASKED}, location.hash, document.hasFocus()]") == [0, "", True]
    await game.ask("clearInterval(timer)")
    await popup.until(ARMED)
    assert await popup.ask("document.activeElement === document.body || document.activeElement.tagName === 'H1'")
    assert (await app_site.status(user, mode="test"))["connected"] is False


@pytest.mark.parametrize("key", ["Return", "space"])
async def test_a_key_that_was_held_before_allows_nothing(
    screen: Desktop, game: Seen, app_site: AppSite, user: str, key: str
) -> None:
    """Even with the focus on Allow, a key pressed before counts neither while it repeats nor when it is released."""
    await set_trap(game, app_site, user)
    await screen.do("keydown", key)
    popup = await screen.window(app_site.stack.consent)
    await popup.until(f"{ALLOW} && document.hasFocus()")
    await popup.ask(f"{ALLOW}.focus()")
    await screen.do("sleep", "2", "keyup", key)
    assert await popup.ask(ASKED) == 0
    await popup.until(ARMED)
    await screen.do("key", key)
    await game.until("w.closed")
    assert (await app_site.status(user, mode="test"))["connected"] is True


@pytest.mark.parametrize(("count", "pause_seconds"), [(12, 0.3), (3, 1.3)])
async def test_a_clicker_game_at_one_spot_allows_nothing(
    screen: Desktop, game: Seen, app_site: AppSite, user: str, count: int, pause_seconds: float
) -> None:
    """Fast, each click starts the wait anew; slow, a mouse that has not moved in this window answers nothing."""
    x, y = await spot_of(screen, game, app_site, user)
    taps = [word for _ in range(count) for word in ("click", "1", "sleep", str(pause_seconds))]
    await screen.do("mousemove", x, y, "sleep", "0.2", *taps)
    popup = await screen.window(app_site.stack.consent)
    assert await popup.ask(ASKED) == 0
    assert (await app_site.status(user, mode="test"))["connected"] is False


async def test_a_window_behind_is_never_armed(screen: Desktop, game: Seen, app_site: AppSite, user: str) -> None:
    """Ready or not before: a click that brings it to the front is not an answer."""
    await set_trap(game, app_site, user)
    await screen.do("key", "a")
    popup = await screen.window(app_site.stack.consent)
    await popup.until(ARMED)
    x, y = map(str, map(round, await popup.ask(SPOT)))
    # No window manager is here that would do it for a click.
    await screen.do("search", "--onlyvisible", "--name", "^Acme Notes", "windowfocus", "--sync")
    await popup.until(f"!document.hasFocus() && {ALLOW}.ariaDisabled === 'true'")
    await screen.do("mousemove", "500", "400", "mousemove", x, y, "sleep", "1", "click", "1", "sleep", "0.3")
    assert await popup.ask(ASKED) == 0
    assert (await app_site.status(user, mode="test"))["connected"] is False


async def test_a_small_window_says_so_and_allows_nothing(
    screen: Desktop, game: Seen, app_site: AppSite, user: str
) -> None:
    """In a size in which name and sentence are never in view, Allow does not arm, and the window says why."""
    await set_trap(game, app_site, user, width=260, height=110)
    await screen.do("key", "a")
    popup = await screen.window(app_site.stack.consent)
    await popup.until("document.querySelector('.hint')?.textContent.includes('too small')")
    assert await popup.ask("document.hasFocus()")
    await popup.ask(f"{ALLOW}.focus()")
    await screen.do("sleep", "1.2", "key", "Return", "sleep", "0.3")
    assert await popup.ask(ASKED) == 0
