"""Revoking is a barrier over every process: after its answer no request starts upstream that it forbids."""

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from tests.fakes import MODEL, Exchange, FakeOpenRouter, whole_answer
from tests.faults.process_forker import ForkedGateway, ProcessForker
from tests.faults.world import FaultWorld, open_world, until, variables

pytestmark = pytest.mark.each_store

ROUNDS = 36
CALLERS = 6


class NotingOpenRouter(FakeOpenRouter):
    """Records when each metered request arrived, by its bearer token."""

    def __init__(self) -> None:
        super().__init__(play=self._note)
        self.arrivals: list[tuple[str, float]] = []

    async def _note(self, turn: Exchange) -> None:
        self.arrivals.append(((turn.request.header("Authorization") or "").removeprefix("Bearer "), time.monotonic()))
        await whole_answer(turn)

    def after(self, key: str, moment: float) -> int:
        """Return how many requests with `key` arrived after `moment`."""
        return sum(at > moment for bearer, at in self.arrivals if bearer == key)


@pytest.fixture
async def openrouter() -> AsyncIterator[NotingOpenRouter]:
    """It answers at once."""
    fake = NotingOpenRouter()
    async with fake.running():
        yield fake


@pytest.fixture
async def gateways(
    redis_url: str, openrouter: NotingOpenRouter, tmp_path: Path
) -> AsyncIterator[tuple[FaultWorld, list[ForkedGateway]]]:
    """Two gateway processes on one Redis, and a third process (this one) that revokes."""
    environment = variables(redis_url, openrouter.url, WATTFARE_HOLD_SECONDS="60")
    async with ProcessForker(tmp_path) as forker, open_world(environment) as world:
        yield world, [await forker.start(environment) for _ in range(2)]


async def _settled_moment() -> float:
    """Now, once everything that had reached this process before was taken in."""
    for _ in range(20):
        await asyncio.sleep(0)
    return time.monotonic()


async def _call(world: FaultWorld, url: str, headers: dict[str, str]) -> int:
    body = json.dumps({"model": MODEL, "stream": True, "max_tokens": 16, "messages": []}).encode()
    async with world.client.post(f"{url}/v1/chat/completions", data=body, headers=headers) as answer:
        await answer.read()
        return answer.status


async def _round(
    world: FaultWorld,
    fake: NotingOpenRouter,
    processes: list[ForkedGateway],
    user: str,
    act: Callable[[], Awaitable[object]],
) -> int:
    """Call from all sides, act in the midst of it; return how many requests started upstream after the answer."""
    over = asyncio.Event()
    headers = world.headers(user)

    async def caller(number: int) -> None:
        while not over.is_set():
            with contextlib.suppress(aiohttp.ClientError):
                await _call(world, processes[number % 2].url, headers)

    callers = [asyncio.create_task(caller(number)) for number in range(CALLERS)]
    key = world.key(user)
    async with asyncio.timeout(10):
        while not fake.after(key, 0) >= CALLERS:
            await asyncio.sleep(0.001)
    await act()
    answered = await _settled_moment()
    statuses = [await _call(world, process.url, headers) for process in processes]
    over.set()
    await asyncio.gather(*callers)
    assert set(statuses) <= {401, 402}, statuses
    return fake.after(key, answered)


async def test_after_a_revoke_is_answered_nothing_starts_upstream(
    gateways: tuple[FaultWorld, list[ForkedGateway]], openrouter: NotingOpenRouter
) -> None:
    """Whether the operator revokes here, or an app through either gateway."""
    world, processes = gateways

    async def over_http(process: ForkedGateway, user: str) -> None:
        url = f"{process.url}/v1/connections?appUserId={user}"
        async with world.client.delete(url, headers=world.headers(user)) as answer:
            assert answer.status == 204

    late = []
    for number in range(ROUNDS):
        user = f"revoked-{number}"
        # A one-time grant is ended by the same broadcast.
        await (world.grant(user, 100_000) if number % 4 == 0 else world.connect(user))
        if number % 2:
            late.append(
                await _round(world, openrouter, processes, user, lambda u=user: over_http(processes[0], u))  # type: ignore[misc]
            )
        else:
            budget = world.budget(user)
            late.append(
                await _round(world, openrouter, processes, user, lambda b=budget: world.services.connections.revoke(b))  # type: ignore[misc]
            )
    assert late == [0] * ROUNDS


async def test_after_a_pause_is_answered_nothing_starts_upstream(
    gateways: tuple[FaultWorld, list[ForkedGateway]], openrouter: NotingOpenRouter
) -> None:
    """And a resume admits requests again."""
    world, processes = gateways
    await world.connect("paused")
    budget = world.budget("paused")
    for _ in range(ROUNDS):
        assert (
            await _round(world, openrouter, processes, "paused", lambda: world.services.connections.pause(budget)) == 0
        )
        await world.services.connections.resume(budget)
    assert await _call(world, processes[0].url, world.headers("paused")) == 200


async def test_after_a_rotation_is_answered_the_old_secret_starts_nothing(
    gateways: tuple[FaultWorld, list[ForkedGateway]], openrouter: NotingOpenRouter
) -> None:
    """A call that begins after the answer is refused by every process, regardless of its cache."""
    world, processes = gateways
    await world.connect("rotated")
    for _ in range(ROUNDS):
        old = world.headers("rotated")
        new = await world.services.apps.rotate(world.app["appId"], "live", grace_seconds=0)
        world.app["secretKey"] = new
        refused = [_call(world, process.url, old) for process in processes for _ in range(3)]
        assert set(await asyncio.gather(*refused)) == {401}
        taken = [_call(world, process.url, world.headers("rotated")) for process in processes for _ in range(3)]
        assert set(await asyncio.gather(*taken)) == {200}


async def test_after_an_app_is_closed_nothing_of_it_starts_upstream(
    gateways: tuple[FaultWorld, list[ForkedGateway]], openrouter: NotingOpenRouter
) -> None:
    """Including requests that had already begun."""
    world, processes = gateways
    late = []
    for number in range(ROUNDS):
        world.app = await world.services.apps.create(f"App {number}", [])
        user = f"closed-{number}"
        await world.connect(user)
        app_id = world.app["appId"]
        late.append(await _round(world, openrouter, processes, user, lambda a=app_id: world.services.apps.close(a)))  # type: ignore[misc]
    assert late == [0] * ROUNDS


@pytest.mark.parametrize("how", ["closed", "rotated"])
async def test_a_body_that_was_on_its_way_when_the_app_was_cut_starts_nothing(
    gateways: tuple[FaultWorld, list[ForkedGateway]], openrouter: NotingOpenRouter, how: str
) -> None:
    """Its secret was valid when its headers arrived, and is verified again when its body is complete."""
    world, processes = gateways
    await world.connect("slow")
    body = json.dumps({"model": MODEL, "max_tokens": 16, "messages": []}).encode()
    host = processes[0].url.removeprefix("http://")
    head = {**world.headers("slow"), "Host": host, "Content-Length": str(len(body)), "Expect": "100-continue"}
    reader, writer = await asyncio.open_connection("127.0.0.1", processes[0].port)
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    writer.write(f"POST /v1/chat/completions HTTP/1.1\r\n{lines}\r\n".encode())
    # The gateway reads the body only after verifying the secret.
    async with asyncio.timeout(5):
        assert b"100" in await reader.readline()
    if how == "closed":
        await world.services.apps.close(world.app["appId"])
    else:
        await world.services.apps.rotate(world.app["appId"], "live", grace_seconds=0)
    writer.write(body)
    async with asyncio.timeout(5):
        await reader.readline()
        assert b" 401 " in await reader.readline()
    writer.close()
    assert openrouter.arrivals == []


async def test_a_process_that_was_frozen_after_its_hold_sends_nothing_when_it_thaws(
    redis_url: str, openrouter: NotingOpenRouter, tmp_path: Path
) -> None:
    """It received no cut and could not acknowledge it; before sending upstream it checks with Redis."""
    environment = variables(redis_url, openrouter.url, WATTFARE_HOLD_SECONDS="60")
    async with ProcessForker(tmp_path) as forker, open_world(environment) as world:
        gateway = await forker.start(environment, point="connected", freeze=True)
        await world.connect("frozen")
        calling = asyncio.create_task(_call(world, gateway.url, world.headers("frozen")))
        await gateway.froze()
        await world.services.connections.revoke(world.budget("frozen"))
        gateway.send(signal.SIGCONT)
        assert await calling == 402
        assert openrouter.arrivals == []

        async def nothing_is_held() -> bool:
            return (await world.books("frozen")).agree

        await until(nothing_is_held)
