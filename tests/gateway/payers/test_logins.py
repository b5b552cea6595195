"""Logins: rotating cookies that survive lost answers, and what ends a login."""

import pytest

from gateway import keys
from gateway.digest import sha256_hex
from gateway.payers.logins import UNSEEN_SECONDS, VISIT_SECONDS, Guest, Logins
from gateway.services import Services

MINE = Guest("a" * 64, "Firefox on Linux")
OTHER = Guest("b" * 64)


@pytest.fixture
def logins(services: Services) -> Logins:
    """The store of logins."""
    return services.logins


async def test_an_old_cookie_lives_until_the_new_one_is_seen(logins: Logins) -> None:
    """Any number of lost answers loses no login; a cookie that was seen ends its predecessors only."""
    first = await logins.begin("w", MINE)
    second, third = await logins.renew(first), await logins.renew(first)
    assert await logins.find(first.token, MINE) == first
    assert await logins.find(third.token, MINE) == third
    assert await logins.find(first.token, MINE) is None
    assert await logins.find(second.token, MINE) == second
    assert {first.device, second.device, third.device} == {first.device}


async def test_the_secret_tells_the_browser_from_one_that_read_its_cookie(logins: Logins) -> None:
    """Without it, with another one, or where none was ever given, a visit is not trusted."""
    visit = await logins.begin("w", MINE)
    bare = await logins.begin("w", Guest(""))
    found = [await logins.find(visit.token, guest) for guest in (MINE, OTHER, Guest(""))]
    assert [one is not None and one.is_trusted for one in found] == [True, False, False]
    silent = await logins.find(bare.token, Guest(""))
    assert silent is not None
    assert not silent.is_trusted


async def test_a_stay_that_was_ended_does_not_come_back(services: Services, logins: Logins) -> None:
    """No cookie of it is valid, not by a late note either that it was seen; it leaves the list."""
    visit, other = await logins.begin("w", MINE), await logins.begin("w", OTHER)
    newer = await logins.renew(visit)
    assert [one.label for one in await logins.all("w") if one.device == visit.device] == ["Firefox on Linux"]
    await logins.end("w", visit.device)
    await services.store.call("HSET", keys.login("w", visit.device), "seen_ms", 1)
    for token in (visit.token, newer.token):
        assert await logins.find(token, MINE) is None
    assert [one.device for one in await logins.all("w")] == [other.device]


async def test_what_takes_the_place_of_a_stay_ends_it_when_it_is_seen(logins: Logins) -> None:
    """When a browser moves to another wallet, its login to the first one ends."""
    first = await logins.begin("w1", MINE)
    second = await logins.begin("w2", MINE, instead=first)
    assert await logins.find(first.token, MINE) == first
    assert await logins.find(second.token, MINE) == second
    assert await logins.find(first.token, MINE) is None
    assert await logins.all("w1") == []


async def test_a_cookie_that_never_came_back_expires_in_a_day(services: Services, logins: Logins) -> None:
    """A cookie that came back lasts 400 days from then."""
    visit = await logins.begin("w", MINE)
    names = [keys.visit(sha256_hex(visit.token)), keys.login("w", visit.device)]
    assert all([UNSEEN_SECONDS - 9 < await services.store.call("TTL", name) <= UNSEEN_SECONDS for name in names])
    await logins.find(visit.token, MINE)
    assert all([VISIT_SECONDS - 9 < await services.store.call("TTL", name) <= VISIT_SECONDS for name in names])


async def test_a_proof_lasts_for_ten_minutes_and_for_one_browser(services: Services, logins: Logins) -> None:
    """Another browser of the same wallet proves for itself."""
    visit, other = await logins.begin("w", MINE), await logins.begin("w", OTHER)
    await logins.prove(visit)
    assert (await logins.is_proved(visit), await logins.is_proved(other)) == (True, False)
    assert 590_000 < await services.store.call("PTTL", keys.login_proof("w", visit.device)) <= 600_000


async def test_a_wallet_decides_one_thing_at_a_time(services: Services, logins: Logins) -> None:
    """Across browsers, until the decision ends; one that was never ended expires."""
    visit, other = await logins.begin("w", MINE), await logins.begin("w", OTHER)
    assert [await logins.take_turn(one) for one in (visit, other)] == [True, False]
    assert 0 < await services.store.call("PTTL", keys.wallet_turn("w")) <= 20_000
    await logins.end_turn(visit)
    assert await logins.take_turn(other)
