"""How many calls an app may make in a minute, counted over several processes."""

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway import metrics
from gateway.errors import RateLimited
from gateway.payers import app_pace
from gateway.payers.app_pace import AppPace
from gateway.payers.apps import App, Caller
from gateway.services import Services
from gateway.settings import Settings
from tests.gateway.environments import RINGS
from tests.gateway.stack import PATIENCE_SECONDS, open_stack, settings_for
from tests.scripts.books import opened

LIMIT = "WATTFARE_APP_REQUESTS_A_MINUTE"


def caller(app_id: str = "app2222222222222222", mode: str = "live") -> Caller:
    return Caller(App(app_id, "Acme", frozenset(), (), is_closed=False), mode)


def admitted(pace: AppPace, calls: int = 1, who: Caller | None = None) -> int:
    """Return how many of the calls in one loop turn are admitted."""
    done = 0
    with contextlib.suppress(RateLimited):
        for _ in range(calls):
            pace.admit(who or caller())
            done += 1
    return done


@contextlib.asynccontextmanager
async def two_processes(redis_url: str, folder: Path, per_minute: int) -> AsyncIterator[tuple[Services, Services]]:
    """The stores of two processes on one Redis."""
    limit = {LIMIT: str(per_minute)}
    async with opened(redis_url, folder, **limit) as one, opened(redis_url, folder, **limit) as other:
        yield one, other


async def told(services: Services) -> None:
    assert await services.store.drained(PATIENCE_SECONDS)


@pytest.mark.each_store
async def test_two_processes_together_let_through_what_a_minute_allows(redis_url: str, tmp_path: Path) -> None:
    """One that was silent half the time learns of the other: no fewer, and no more than its share of a thousandth."""
    async with two_processes(redis_url, tmp_path, per_minute := 2048) as both:
        began = time.monotonic()
        total, is_open, share = 0, [True, True], 2
        while any(is_open):
            for number, services in enumerate(both if total > per_minute // 2 else both[:1]):
                count = admitted(services.app_pace, share)
                total, is_open[number] = total + count, count > 0
                await told(services)
        elapsed = time.monotonic() - began
        assert per_minute <= total <= per_minute * (1 + elapsed / 60) + share + 1


async def test_what_two_let_through_at_once_is_waited_for(redis_url: str, tmp_path: Path) -> None:
    """Two processes that admitted at once exceed the limit; the later report makes callers wait until the sum fits."""
    async with two_processes(redis_url, tmp_path, 60) as both:
        for services in both:
            assert admitted(services.app_pace, 99) == 60
        for services in both:
            await told(services)
        waits = []
        for services in both:
            with pytest.raises(RateLimited) as refused:
                services.app_pace.admit(caller())
            waits.append(int(refused.value.headers["Retry-After"]))
        assert 58 <= max(waits) <= 61
        assert min(waits) >= 1


async def test_a_refused_call_is_not_counted(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After any number of refused calls, one is admitted at the stated time."""
    async with opened(redis_url, tmp_path, **{LIMIT: "6"}) as services:
        pace, now = services.app_pace, 1000.0
        monkeypatch.setattr(pace, "_clock", lambda: now)
        assert admitted(pace, 9) == 6
        for _ in range(9):
            with pytest.raises(RateLimited) as refused:
                pace.admit(caller())
            assert refused.value.headers["Retry-After"] == "10"
        now += 10
        assert admitted(pace, 9) == 1
        assert admitted(pace, 9, caller(mode="test")) == 6


async def test_an_ordinary_call_costs_redis_nothing(redis_url: str, tmp_path: Path) -> None:
    """At the default limit every 585th call costs one command, which is not waited for."""
    async with opened(redis_url, tmp_path) as services:
        assert admitted(services.app_pace, 584) == 584
        assert services.store.pending == 0
        assert admitted(services.app_pace) == 1
        assert services.store.pending == 1
        await told(services)


async def test_the_apps_that_are_remembered_are_bounded(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more than that, and all are begun anew."""
    monkeypatch.setattr(app_pace, "_MOST_APPS", 3)
    async with opened(redis_url, tmp_path, **{LIMIT: "1"}) as services:
        pace = services.app_pace
        apps = [caller(f"app{number:016d}") for number in range(4)]
        assert [admitted(pace, 2, app) for app in apps] == [1, 1, 1, 1]
        assert len(pace._counts) == 1


async def test_a_caller_is_told_by_429_and_when_to_come_again(redis_url: str) -> None:
    """Calls by secret key count, of each mode apart; not those by session token, nor what ends a connection."""
    settings = settings_for(redis_url, "http://127.0.0.1:1", **{LIMIT: "4"})
    async with open_stack(settings) as stack:
        before = metrics.limited_by("app")._value.get()
        await stack.connect_test(user="tess")
        own = {"Authorization": f"Bearer {stack.test_secret}"}
        token = await stack.token(secret=stack.test_secret)
        for _ in range(3):
            assert (
                await stack.ask("GET", "/v1/connections", headers={"Authorization": f"Bearer {token}"})
            ).status == 200
        tess = stack.as_user("tess", secret=stack.test_secret)
        assert (await stack.chat(headers=tess)).status == 200
        assert (await stack.ask("GET", "/v1/status?appUserId=tess", headers=own)).status == 200
        assert (await stack.chat(headers=stack.as_user("nobody", secret=stack.test_secret))).status == 402
        for path in ("/v1/chat/completions", "/v1/messages", "/v1/messages/count_tokens", "/v1/sessions"):
            refused = await stack.ask("POST", path, document={}, headers=tess)
            assert refused.refusal == (429, "rate_limited") if "messages" not in path else refused.status == 429
            assert 1 <= int(refused.headers["Retry-After"]) <= 15
            assert refused.document["error"]["limit"] == "app"
        gone = await stack.ask("DELETE", "/v1/connections?appUserId=tess", headers=own)
        assert gone.status == 204
        assert metrics.limited_by("app")._value.get() == before + 4
        assert (await stack.ask("GET", "/v1/status?appUserId=ada", headers=stack.as_user())).status == 200


def test_the_usual_limit_is_beyond_any_honest_app() -> None:
    """Ten thousand calls a second."""
    assert Settings.load(RINGS).limits.app_a_minute == 600_000
