"""Pending authorizations below HTTP; the browser's view is in tests/consent_web/test_funding.py."""

import asyncio

import pytest

from gateway.payers.authorizations import Authorizations
from gateway.services import Services
from gateway.store.store import Store

BROWSER = "b" * 64
KEY = "sk-or-v1-0123456789abcdef"


@pytest.fixture
def authorizations(services: Services) -> Authorizations:
    """The store of authorizations."""
    return services.authorizations


async def test_one_brings_a_key_once(authorizations: Authorizations) -> None:
    """Of many that exchange the same code at once one keeps its key, until the end."""
    begun = await authorizations.begin(BROWSER, "attempt")
    issued = await asyncio.gather(*(authorizations.issue(begun, KEY, "user") for _ in range(20)))
    kept = [each for each in issued if each is not None]
    assert [(each.key, each.user_id, each.attempt) for each in kept] == [(KEY, "user", "attempt")]
    assert await authorizations.find(begun.state, BROWSER) == kept[0]
    await authorizations.end(begun)
    assert await authorizations.find(begun.state, BROWSER) is None


async def test_another_browser_finds_nothing_and_spoils_nothing(authorizations: Authorizations) -> None:
    """A stolen state is of no use, and does not use up the one that set out."""
    begun = await authorizations.begin(BROWSER, "")
    assert await authorizations.find(begun.state, "c" * 64) is None
    assert await authorizations.find("s" * 43, BROWSER) is None
    assert await authorizations.find(begun.state, BROWSER) == begun


async def test_neither_its_state_nor_its_key_is_in_redis(authorizations: Authorizations, store: Store) -> None:
    """A reader of the store can neither complete an authorization nor use its key."""
    begun = await authorizations.begin(BROWSER, "")
    await authorizations.issue(begun, KEY, None)
    for name in [name async for name in store.each_key("*")]:
        assert begun.state not in name
        dumped = await store.call("DUMP", name) or b""
        assert begun.state.encode() not in dumped
        assert KEY.encode() not in dumped
