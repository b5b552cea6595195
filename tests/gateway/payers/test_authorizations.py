"""Authorizations under way, below HTTP (what a browser sees of them is in tests/consent_web/test_funding.py)."""

import asyncio

from gateway.payers.authorizations import Authorizations
from gateway.store.store import Store

BROWSER = "b" * 64


async def test_one_comes_back_once(store: Store) -> None:
    """Of many that bring the same state back at once one gets it."""
    authorizations = Authorizations(store)
    begun = await authorizations.begin(BROWSER, "attempt")
    taken = await asyncio.gather(*(authorizations.take(begun.state, BROWSER) for _ in range(20)))
    assert [each for each in taken if each is not None] == [begun]


async def test_another_browser_takes_nothing_and_spoils_nothing(store: Store) -> None:
    """A stolen state is of no use, and does not use up the one that set out."""
    authorizations = Authorizations(store)
    begun = await authorizations.begin(BROWSER, "")
    assert await authorizations.take(begun.state, "c" * 64) is None
    assert await authorizations.take("s" * 43, BROWSER) is None
    assert await authorizations.take(begun.state, BROWSER) == begun


async def test_its_state_is_not_in_redis(store: Store) -> None:
    """Who reads the store cannot bring an authorization back."""
    begun = await Authorizations(store).begin(BROWSER, "")
    for name in [name async for name in store.each_key("*")]:
        assert begun.state not in name
        assert begun.state.encode() not in (await store.call("DUMP", name) or b"")
