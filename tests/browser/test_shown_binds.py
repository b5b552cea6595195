"""The number on the button is the cap that the gateway enforces, whatever happened to the window before the press."""

import re
from collections.abc import Awaitable, Callable
from decimal import Decimal

import aiohttp
import pytest
from playwright.async_api import Page, expect

from gateway.keys import Budget
from gateway.money import NANO_PER_USD
from gateway.payers.connections import Approval
from gateway.services import Services
from tests.browser import payer
from tests.browser.app_site import AppSite

pytestmark = pytest.mark.asyncio(loop_scope="session")

Step = Callable[[Page], Awaitable[None]]


def pick(amount: str) -> Step:
    async def step(popup: Page) -> None:
        await popup.get_by_role("radio", name=amount).first.check(force=True)

    return step


def write(amount: str) -> Step:
    async def step(popup: Page) -> None:
        await popup.get_by_label("Other").check(force=True)
        await popup.get_by_label("Amount in US dollars per month").fill(amount)

    return step


async def reload(popup: Page) -> None:
    await popup.evaluate("setTimeout(() => location.reload(), 0)")
    await popup.wait_for_event("load")
    await payer.allow_button(popup).wait_for()


# What the payer does, and the number that the button then carries. The app suggests $5.
WAYS: dict[str, tuple[list[Step], str]] = {
    "suggested": ([], "5"),
    "edited": ([pick("$2")], "2"),
    "typed": ([write("7.25")], "7.25"),
    "typed over": ([write("7.25"), write("1234"), write("12,5")], "12.50"),
    "typed, then another picked": ([write("7.25"), pick("$10")], "10"),
    "edited, then reloaded": ([pick("$2"), reload], "5"),
    "reloaded, then typed": ([reload, write("0.5")], "0.50"),
}


async def remaining_usd(app_site: AppSite, user: str) -> str:
    """Return the remaining amount by the gateway when it admits a first request."""
    headers = {"Authorization": f"Bearer {app_site.stack.keys['secretKey']}", "x-wattfare-user": user}
    body = {"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 20}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{app_site.stack.gateway}/v1/chat/completions", json=body) as answer,
    ):
        assert answer.status == 200
        return answer.headers["x-wattfare-remaining-usd"]


async def press_and_check(page: Page, popup: Page, app_site: AppSite, user: str, number: str) -> None:
    """Read the button, press it, and compare it with the reported and the enforced cap."""
    await expect(payer.allow_button(popup)).to_have_text(f"Allow up to ${number}/month")
    await expect(
        popup.get_by_role("heading", name=re.compile(rf"up to \${float(number):.2f} per month"))
    ).to_be_visible()
    await payer.press_allow(popup)
    told = await payer.outcome(page)
    assert Decimal(str(told["limits"]["monthlyUsd"])) == Decimal(number)
    assert Decimal(await remaining_usd(app_site, user)) == Decimal(number)


async def test_the_button_binds_however_its_number_came_about(page: Page, app_site: AppSite, user: str) -> None:
    """Suggested, edited, typed, reloaded: one payer and wallet, and one user of the app for each case."""
    is_funded = False
    for number, (way, (steps, amount)) in enumerate(WAYS.items()):
        await payer.visit(page, app_site, f"{user}-{number}")
        popup = await payer.press_connect(page)
        if not is_funded:
            await payer.paste_key(popup)
            is_funded = True
        await payer.allow_button(popup).wait_for()
        for step in steps:
            await step(popup)
        assert await payer.allow_button(popup).inner_text() == f"Allow up to ${amount}/month", way
        await press_and_check(page, popup, app_site, f"{user}-{number}", amount)


async def test_what_the_button_does_not_show_is_not_allowed(page: Page, app_site: AppSite, user: str) -> None:
    """An amount that was put into the field without an event is shown at the first press, and allowed at the next."""
    await payer.visit(page, app_site, user)
    popup = await payer.press_connect(page)
    await payer.paste_key(popup)
    await write("7.25")(popup)
    await popup.get_by_label("Amount in US dollars per month").evaluate("field => { field.value = '99' }")
    await payer.press_allow(popup)
    await expect(payer.allow_button(popup)).to_have_text("Allow up to $99/month")
    assert (await app_site.status(user))["connected"] is False
    await press_and_check(page, popup, app_site, user, "99")


async def test_the_button_binds_over_what_was_approved_elsewhere(
    page: Page, services: Services, app_site: AppSite, user: str
) -> None:
    """Before the window opened its number is preselected; approved while it stood open, its own number still binds."""
    budget = Budget.of_user("live", app_site.stack.keys["appId"], user)
    elsewhere = Approval(20 * NANO_PER_USD, payer.FUNDING_KEY, origin=app_site.origin)
    await services.connections.approve(budget, elsewhere)
    await payer.visit(page, app_site, user)
    popup = await payer.press_connect(page)
    await payer.paste_key(popup)
    await press_and_check(page, popup, app_site, user, "20")
    await services.connections.revoke(budget)
    await payer.visit(page, app_site, user)
    popup = await payer.press_connect(page)
    await payer.allow_button(popup).wait_for()
    await services.connections.approve(budget, elsewhere)
    await pick("$2")(popup)
    await expect(payer.allow_button(popup)).to_have_text("Allow up to $2/month")
    await payer.press_allow(popup)
    assert (await payer.outcome(page))["limits"] == {"monthlyUsd": 2}
