"""Requests in flight: a revocation, a pause or a closed app ends them within moments, on every process."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import cast

import pytest
from aiohttp import ClientError

from gateway import keys
from gateway.call import Call
from gateway.errors import Unavailable
from gateway.keys import Budget, request_id
from gateway.ledger.holds import Ledger
from gateway.ledger.outcomes import Admission
from gateway.ledger.worst_case import WorstCase
from gateway.metered.inflight import Inflight, OpenRequest
from gateway.openrouter.connection import UpstreamConnection
from gateway.payers.connections import change_keys
from gateway.store.broadcast import Broadcast
from gateway.store.store import Store
from tests.clusters import ValkeyCluster
from tests.fakes import EVENT_STREAM, STREAMED, Exchange, FakeOpenRouter, streams
from tests.gateway.listed import chat
from tests.gateway.stack import (
    PATIENCE_SECONDS,
    Stack,
    close_app,
    open_stack,
    pause,
    question,
    revoke,
    settings_for,
)
from tests.servers import open_client

pytestmark = pytest.mark.each_store

_HALF = b'data: {"id":"gen-1-fake","choices":[{"index":0,"delta":{"content":"half"}}]}\n\n'


class _Endless:
    """An upstream answer that begins and never ends."""

    def __init__(
        self, openrouter: FakeOpenRouter, *, begins: bool = True, headers: dict[str, str] | None = None
    ) -> None:
        self.started = asyncio.Event()
        self.gone = asyncio.Event()
        self._begins = begins
        self._headers = headers or EVENT_STREAM
        openrouter.generations["gen-1-fake"] = {"id": "gen-1-fake", "total_cost": 0.0004}
        openrouter.play = self

    async def __call__(self, turn: Exchange) -> None:
        if self._begins:
            await turn.head(headers=self._headers)
            await turn.send(_HALF)
        self.started.set()
        await turn.until_closed()
        self.gone.set()


@pytest.mark.parametrize("end", [revoke, pause, close_app])
async def test_an_open_stream_ends_with_an_event_that_says_why(
    stack: Stack, openrouter: FakeOpenRouter, end: Callable[[Stack], Awaitable[None]]
) -> None:
    """The caller gets the bytes so far, then one error event; upstream is closed; the actual cost is booked."""
    endless = _Endless(openrouter)
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        stack.session.post(
            f"{stack.url}/v1/chat/completions", json=question(stream=True), headers=stack.as_user()
        ) as answer,
    ):
        assert await answer.content.readexactly(len(_HALF)) == _HALF
        await end(stack)
        last = await answer.read()
        await endless.gone.wait()
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "not_connected"
    [entry] = await stack.booked()
    assert (entry["cost_nano"], entry["ended_by"]) == ("400000", "revoked")
    assert (await stack.standing()).held_nano == 0


async def test_a_request_that_has_no_answer_yet_is_refused(
    stack: Stack, openrouter: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller gets 402 not_connected at once; upstream is read a moment longer for the generation id."""
    monkeypatch.setattr("gateway.metered.inflight.UNTIL_ID_SECONDS", 0.2)
    endless = _Endless(openrouter, begins=False)
    async with asyncio.timeout(PATIENCE_SECONDS):
        answering = asyncio.create_task(stack.chat(question(stream=True)))
        await endless.started.wait()
        await revoke(stack)
        assert (await answering).refusal == (402, "not_connected")
        await endless.gone.wait()
    [entry] = await stack.booked()
    assert entry["ended_by"] == "revoked"
    assert (await stack.standing()).held_nano == 0


async def test_a_request_whose_hold_was_given_up_does_not_leave(
    stack: Stack, openrouter: FakeOpenRouter, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was frozen past its hold's deadline is admitted anew, as the budget may be held by others now."""

    def swept(exchange: OpenRequest, point: str) -> None:
        if point == "held":
            with open_client(redis_url) as client:
                name = exchange.budget.hold(exchange.request_id)
                client.set(name, client.get(name).replace(b"open", b"void", 1))
            exchange.started -= 60

    monkeypatch.setattr(OpenRequest, "reach", swept)
    assert (await stack.chat()).refusal == (503, "unavailable")
    assert openrouter.received == []


async def test_a_revocation_is_heard_by_every_process(redis_url: str, stack: Stack, openrouter: FakeOpenRouter) -> None:
    """Sent through one gateway, it ends a stream on the other, and no new one starts on either."""
    async with open_stack(settings_for(redis_url, openrouter.url), app=stack.app) as second:
        endless = _Endless(openrouter)
        async with asyncio.timeout(PATIENCE_SECONDS):
            answering = asyncio.create_task(second.chat(question(stream=True)))
            await endless.started.wait()
            headers = {"Authorization": f"Bearer {stack.secret}"}
            assert (await stack.ask("DELETE", "/v1/connections?appUserId=ada", headers=headers)).status == 204
            before = len(openrouter.received)
            assert (await second.chat()).refusal == (402, "not_connected")
            assert (await stack.chat()).refusal == (402, "not_connected")
            assert len(openrouter.received) == before
            assert b"not_connected" in (await answering).body
        [entry] = await second.booked()
        assert entry["ended_by"] == "revoked"


async def test_another_users_stream_goes_on(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """A cut reaches one budget and no other."""
    await stack.connect(user="eve")
    endless = _Endless(openrouter)
    async with asyncio.timeout(PATIENCE_SECONDS):
        answering = asyncio.create_task(stack.chat(question(stream=True), headers=stack.as_user("eve")))
        await endless.started.wait()
        await revoke(stack)
        assert len(stack.gateway.inflight) == 1
        await stack.gateway.services.connections.revoke(stack.budget("eve"))
        await answering
    assert len(stack.gateway.inflight) == 0


async def test_what_was_revoked_unheard_is_found(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """After a gap in hearing, every open request's state is read again."""
    endless = _Endless(openrouter)
    async with asyncio.timeout(PATIENCE_SECONDS):
        answering = asyncio.create_task(stack.chat(question(stream=True)))
        await endless.started.wait()
        await stack.redis.hset(stack.budget().budget, "state", "revoked")
        await stack.gateway.inflight.check(stack.gateway.services.apps.is_closed)
        assert b"not_connected" in (await answering).body


async def test_an_app_that_was_closed_unheard_is_found(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """A process that missed the broadcast checks open apps too, and drops its cache of apps."""
    endless = _Endless(openrouter)
    apps, app_id = stack.gateway.services.apps, stack.app["appId"]
    async with asyncio.timeout(PATIENCE_SECONDS):
        answering = asyncio.create_task(stack.chat(question(stream=True)))
        await endless.started.wait()
        await stack.redis.hset(keys.app(app_id), "closed_ms", "1")
        missed = stack.gateway.services.broadcast._missed
        assert missed is not None
        await missed()
        assert b"not_connected" in (await answering).body
        found = await apps.find(app_id)
        assert found is not None
        assert found.is_closed


@pytest.mark.parametrize("key", ["budget", "app"])
async def test_who_does_not_hear_asks_once_more_before_it_sends(
    stack: Stack, openrouter: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """A process that is not subscribed checks the budget again before sending: a revoked one sends nothing."""

    def revoke(_: OpenRequest, point: str) -> None:
        if point == "connected":
            with open_client(stack.gateway.services.settings.redis_url or "") as redis:
                if key == "budget":
                    redis.hset(stack.budget().budget, "state", "revoked")
                else:
                    redis.hset(keys.app(stack.app["appId"]), "closed_ms", "1")

    monkeypatch.setattr(OpenRequest, "reach", revoke)
    monkeypatch.setattr(Broadcast, "hears", False)
    assert (await stack.chat()).refusal == (402, "not_connected")
    assert not [turn for turn in openrouter.received if turn.method == "POST"]
    assert (await stack.standing()).held_nano == 0


async def test_one_dead_master_keeps_no_other_users_from_being_renewed_and_cut() -> None:
    """Nor does the list of holds, when that is what lies on it."""
    options = ("--cluster-require-full-coverage", "no")
    with ValkeyCluster(replicas=False, options=options) as cluster:
        store = await Store.open(cluster.url, deadline_ms=500)
        ledger = Ledger(store, keep_days=90, lease_ms=600)
        inflight = Inflight(ledger)
        budgets = [Budget.of_user("live", "app" + "a" * 16, f"user-{number}") for number in range(40)]
        places = [(cluster.owner(each.budget), cluster.owner(each.open_shard)) for each in budgets]
        # The dead node's entry comes first; one of the others has its list there.
        chosen = [budgets[places.index(place)] for place in ((1, 1), (0, 1), (2, 0))]
        for budget in chosen:
            yes = (10**9, "sealed", "", "", "acct", "", "receipt", "payer", "", "")
            await store.run("connect", change_keys(budget), yes)
            request = request_id("a" * 13, budget.name.encode()[-12:])
            worst = WorstCase(fixed_nano=1000, per_token_zepto=0, max_tokens=100)
            admission = await ledger.admit(budget, request, worst, model="m", estimate_nano=5)
            assert isinstance(admission, Admission)
            call = SimpleNamespace(request_id=request, notes={}, on_hang_up=lambda _: None)
            opened = OpenRequest(budget, call, chat(), asyncio.get_running_loop())  # type: ignore[arg-type]
            opened.held(admission)
            opened.renewed_at = float("-inf")
            inflight.add(opened)
        ticking = asyncio.create_task(inflight.tick())
        cluster.nodes[1].kill()
        async with asyncio.timeout(PATIENCE_SECONDS):
            for budget in chosen[1:]:
                before = await _due(store, budget)
                while await _due(store, budget) == before:
                    await asyncio.sleep(0.01)
        await store.run("change", change_keys(chosen[2]), ["revoke", "", "payer"])
        with pytest.raises(Unavailable):
            await inflight.check(_is_never_closed)
        assert [request.budget for request in inflight if request.gone == "revoked"] == [chosen[2]]
        ticking.cancel()
        await store.close()


class _Full:
    """A store whose outbox is full."""

    def __init__(self) -> None:
        self.scripts: list[str] = []

    def frequent(self, *_: object, **__: object) -> None:
        """Prepare nothing: none is called."""

    def keep(self, script: str, *_: object) -> bool:
        self.scripts.append(script)
        return False


async def test_a_renewal_that_was_not_kept_is_posted_again() -> None:
    """A third of a lease later, and its budget's place on the sweeper's list with it: each third, while it runs."""
    store = _Full()
    ledger = Ledger(cast("Store", store), keep_days=90, lease_ms=300)
    inflight = Inflight(ledger)
    call = SimpleNamespace(request_id=request_id("a" * 13, b"b" * 12), notes={}, on_hang_up=lambda _: None)
    budget = Budget.of_user("live", "app" + "a" * 16, "ada")
    opened = OpenRequest(budget, cast("Call", call), chat(), asyncio.get_running_loop())
    opened.held(cast("Admission", SimpleNamespace(due_ms=0, hold_nano=0)))
    inflight.add(opened)
    ticking = asyncio.create_task(inflight.tick())
    async with asyncio.timeout(PATIENCE_SECONDS):
        while store.scripts.count("attach") < 3:
            await asyncio.sleep(0.01)
    ticking.cancel()
    assert store.scripts == ["index", "attach"] * (len(store.scripts) // 2)


async def _is_never_closed(_: str) -> bool:
    return False


async def _due(store: Store, budget: Budget) -> list[bytes]:
    """The budget's holds with their times; empty while the machine makes Redis late."""
    try:
        found: list[bytes] = await store.call("ZRANGE", budget.due, 0, -1, "WITHSCORES")
    except Unavailable:
        return []
    return found


async def test_a_long_request_keeps_its_hold_alive(redis_url: str, openrouter: FakeOpenRouter) -> None:
    """A short hold is renewed while its request runs, so no sweeper takes it for an orphan."""
    async with open_stack(settings_for(redis_url, openrouter.url, WATTFARE_HOLD_SECONDS="0.3")) as stack:
        await stack.connect()
        endless = _Endless(openrouter)
        async with asyncio.timeout(PATIENCE_SECONDS):
            answering = asyncio.create_task(stack.chat(question(stream=True)))
            await endless.started.wait()
            [exchange] = next(iter(stack.gateway.inflight._open.values()))
            request_id = exchange.request_id
            first = await stack.redis.zscore(stack.budget().due, request_id)
            while first == (renewed := await stack.redis.zscore(stack.budget().due, request_id)):
                pass
            assert first is not None
            assert renewed is not None
            assert renewed > first
            assert (await stack.gateway.services.ledger.standing(stack.budget())).held_nano > 0
            await revoke(stack)
            await answering


async def test_renewing_outlives_an_answer_that_nobody_expected(
    stack: Stack, openrouter: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that stopped renewing would lose every hold to the sweeper."""
    endless = _Endless(openrouter)
    tries = 0
    again = asyncio.Event()

    def broken(*_: object, **__: object) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise LookupError
        again.set()

    monkeypatch.setattr(Inflight, "_renew", broken)
    monkeypatch.setattr(stack.gateway.services.ledger, "lease_ms", 3)
    async with asyncio.timeout(PATIENCE_SECONDS):
        answering = asyncio.create_task(stack.chat(question(stream=True)))
        await endless.started.wait()
        await again.wait()
        await revoke(stack)
        await answering


async def test_sweeping_outlives_an_answer_that_nobody_expected(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the sweeper's task ended at an unexpected reply, overdue holds would never be released."""
    looks = 0
    again = asyncio.Event()

    async def broken(*_: object, **__: object) -> list[object]:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise LookupError
        again.set()
        return []

    monkeypatch.setattr(stack.gateway.services.ledger, "take_due", broken)
    sweeping = asyncio.create_task(stack.gateway.sweeper.run())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await again.wait()
    sweeping.cancel()
    await asyncio.gather(sweeping, return_exceptions=True)


async def test_who_leaves_in_the_turn_the_last_byte_went_out_still_owes(
    stack: Stack, openrouter: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is void once the whole request is with the kernel, whatever is noticed first."""
    start, send = UpstreamConnection.start, UpstreamConnection.send
    progress: list[Callable[[], None]] = []

    def start_and_note(self: UpstreamConnection, on_progress: Callable[[], None]) -> None:
        progress.append(on_progress)
        start(self, on_progress)

    def send_and_lose(self: UpstreamConnection, head: bytes, body: bytes) -> None:
        [request] = stack.gateway.inflight

        def taken() -> None:
            self.is_sent = True
            progress[-1]()
            request.hang_up()

        send(self, head, body)
        # As if the kernel took the last of it only in the next turn of the loop.
        self.is_sent = False
        asyncio.get_running_loop().call_soon(taken)

    monkeypatch.setattr(UpstreamConnection, "start", start_and_note)
    monkeypatch.setattr(UpstreamConnection, "send", send_and_lose)
    openrouter.generations["gen-1-fake"] = {"id": "gen-1-fake", "total_cost": 0.0004}
    openrouter.play = streams([STREAMED])
    with contextlib.suppress(ClientError):
        await stack.chat(question(stream=True))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (entries := await stack.entries()):
            await asyncio.sleep(0.01)
    assert entries[0]["status"] != "void"
