"""Actions of payers and of attackers with their cookies, and what the dashboard shows afterwards."""

import re
from dataclasses import replace

import aiohttp

from gateway.payers.logins import Guest
from tests.consent_web.sight import is_connected
from tests.consent_web.world import Fetched, Visitor, World

WALLET = "__Host-wattfare-wallet"


def same_browser(visitor: Visitor, **changed: object) -> Visitor:
    """Return the browser with its cookies as they are now."""
    return replace(visitor, cookies=dict(visitor.cookies), **changed)  # type: ignore[arg-type]


async def shown(visitor: Visitor) -> int:
    """Return how many living apps the dashboard shows."""
    return len(re.findall(r'href="/apps/[a-z0-9]+/revoke"', (await visitor.get("/")).text))


async def stop(visitor: Visitor) -> None:
    """Stop everything, as the dashboard does without script."""
    await visitor.read_csrf("/stop")
    assert (await visitor.submit("/stop", secret="")).status == 303


async def agrees(world: World, visitor: Visitor, user: str = "bob") -> bool:
    """Return whether a user's app is connected, after checking that the dashboard agrees and can stop it."""
    connected = await is_connected(world, user)
    assert await shown(visitor) == connected
    if connected:
        await stop(visitor)
        assert not await is_connected(world, user)
    return connected


async def approve(visitor: Visitor, attempt: str, usd: float = 5) -> Fetched | None:
    """Press Allow; return None if there is no answer."""
    try:
        return await visitor.post(f"/consent/attempts/{attempt}/approve", {"monthlyUsd": usd})
    except aiohttp.ServerDisconnectedError:
        return None


async def raise_to(visitor: Visitor, ref: str, usd: int) -> Fetched:
    """Raise an app's cap, and confirm it."""
    return await visitor.submit(f"/apps/{ref}/cap", monthly_usd=str(usd), confirmed=f"{usd}000000000")


async def return_as(world: World, visitor: Visitor, account: str) -> tuple[str, Fetched]:
    """Authorize at OpenRouter as an account and come back. Returns the state and what was answered."""
    await visitor.read_csrf("/fund/start")
    started = await visitor.post("/fund/start", {})
    back = await world.authorize(str(started.json["url"]), account)
    state = back.split("?")[0].rpartition("/")[2]
    return state, await visitor.post("/fund/finish", {"state": state, "code": back.partition("code=")[2]})


async def wallets_of(world: World, visitor: Visitor) -> frozenset[str]:
    """Return the ids of the wallets that a browser's cookie leads to."""
    found = await world.site.logins.find(visitor.cookies[WALLET], Guest(""))
    return frozenset() if found is None else found.wallet_ids


async def forget_proofs(world: World) -> None:
    """Make all proofs of ownership expire."""
    async for name in world.services.store.each_key("wf:wallet:*:proof:*"):
        await world.services.store.call("DEL", name)
