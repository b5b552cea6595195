"""The browsers that hold a wallet: listed, and signed out for good."""

# ruff: noqa: N802 - some names carry the checklist's ids

import re

from consent_web.browser_label import browser_label
from tests.consent_web.payers import approve, same_browser, shown
from tests.consent_web.world import Visitor, World


async def two_browsers(world: World, visitor: Visitor) -> Visitor:
    """Open one account's wallet in the visitor's browser and in another one, which is returned."""
    await world.by_openrouter(visitor, "user_alice")
    await approve(visitor, str((await world.begin(visitor)).json["id"]))
    phone = world.visitor()
    await world.by_openrouter(phone, "user_alice")
    return phone


def ends(page: str) -> list[str]:
    """Return the paths that sign a browser out."""
    return re.findall(r'action="(/browsers/[0-9a-f]+/end)"', page)


async def test_W08_each_browser_is_listed_and_can_be_signed_out(world: World, visitor: Visitor) -> None:
    """All its cookies become invalid at once, even one not received yet; the other browser and the app continue."""
    phone = await two_browsers(world, visitor)
    agent = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Version/17.0 Mobile/15E148 Safari/604.1"
    tablet = world.visitor()
    await tablet.get("/consent")
    await world.by_openrouter(tablet, "user_alice")
    older = same_browser(phone)
    await world.by_openrouter(phone, "user_alice")
    page = await visitor.read_csrf("/browsers")
    assert page.text.count("This one") == 1
    assert len(ends(page.text)) == 2
    assert browser_label(agent) == "Safari on iPhone"
    for path in ends(page.text):
        assert (await visitor.submit(path)).status == 303
        assert (await visitor.submit(path)).status == 404
    for one in (phone, older, tablet):
        assert (await one.get("/funding")).status == 404
    assert await shown(visitor) == 1
    assert ends((await visitor.get("/browsers")).text) == []


async def test_W08_a_cookie_alone_signs_nobody_out(world: World, visitor: Visitor) -> None:
    """An attacker with the cookie cannot sign out the payer, not even by leaving."""
    phone = await two_browsers(world, visitor)
    thief = same_browser(visitor, secret="")
    (path,) = ends((await thief.read_csrf("/browsers")).text)
    assert (await thief.submit(path)).status == 403
    assert (await thief.submit("/leave")).status == 303
    assert (await visitor.get("/funding")).status == (await phone.get("/funding")).status == 200


def test_a_browser_is_called_by_names_that_we_know() -> None:
    """Other content of the header is not shown."""
    agents = {
        "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0": "Firefox on Linux",
        "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/129.0 Safari/537.36 Edg/129.0": "Edge on Windows",
        "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 Chrome/129.0 Mobile Safari/537.36": "Chrome on Android",
        "<script>alert(1)</script>": "A browser",
        "": "A browser",
    }
    assert {agent: browser_label(agent) for agent in agents} == agents
