"""Passkeys in their wallets, and challenges that are answered once."""

import pytest

from gateway.payers.logins import Guest, Visit
from gateway.payers.passkeys import Passkey, Passkeys
from gateway.services import Services

MINE = Guest("a" * 64)
KEY = Passkey("id", "public", 0, "Firefox on Linux", 1)


@pytest.fixture
def passkeys(services: Services) -> Passkeys:
    """The store of passkeys."""
    return services.passkeys


async def test_a_challenge_is_answered_once_by_who_asked(services: Services, passkeys: Passkeys) -> None:
    """For its purpose, and only the newest one."""
    mine, other = await services.logins.begin("w", MINE), await services.logins.begin("w", MINE)
    first = await passkeys.challenge(mine, "get")
    second = await passkeys.challenge(mine, "get")
    assert first != second
    assert await passkeys.take_challenge(mine, "create") is None
    assert await passkeys.take_challenge(other, "get") is None
    assert [await passkeys.take_challenge(mine, "get") for _ in range(2)] == [second, None]


async def test_a_merged_wallet_keeps_its_passkeys(services: Services, passkeys: Passkeys) -> None:
    """They are used and removed where they are."""
    old = await services.logins.begin("old", MINE)
    await passkeys.put(old, KEY)
    merged = Visit("t", "new", "d", frozenset({"old", "new"}), is_trusted=True)
    used = Passkey("id", "public", 5, "Firefox on Linux", 1)
    await passkeys.put(merged, used)
    assert await passkeys.all(merged) == await passkeys.all(old) == [used]
    await passkeys.remove(merged, "id")
    assert await passkeys.all(merged) == []
