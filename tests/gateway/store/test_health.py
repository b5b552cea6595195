"""How long a call waits for one Redis server, and what counts as an outage."""

import asyncio

import pytest
from structlog.testing import capture_logs

from gateway.store.health import Lane

_DEADLINE_SECONDS = 0.05


async def _never() -> None:
    await asyncio.Event().wait()


async def test_a_server_that_answers_nobody_is_away_after_the_deadline() -> None:
    """One line tells of it, however many calls find out."""
    lane = Lane()
    tasks = [asyncio.ensure_future(_never()) for _ in range(3)]

    with capture_logs() as lines:
        outcomes = await asyncio.gather(*(lane.wait(task, _DEADLINE_SECONDS, despite_outage=False) for task in tasks))
    for task in tasks:
        task.cancel()

    assert outcomes == [False, False, False]
    assert lane.is_away
    assert [line["event"] for line in lines] == ["store_away"]


async def test_a_server_that_answers_others_is_busy_and_waited_for() -> None:
    """As long as somebody is answered, a long queue is no outage."""
    lane = Lane()
    answer = asyncio.Event()
    task = asyncio.ensure_future(answer.wait())

    async def others() -> None:
        for _ in range(10):
            lane.heard()
            await asyncio.sleep(_DEADLINE_SECONDS / 3)
        answer.set()

    done, _ = await asyncio.gather(lane.wait(task, _DEADLINE_SECONDS, despite_outage=False), others())

    assert done
    assert not lane.is_away


async def test_a_call_that_waits_while_the_server_is_found_away_ends_too() -> None:
    """Nobody waits out a deadline of his own for what another call has found out."""
    lane = Lane()
    task = asyncio.ensure_future(_never())
    lane.lost("known", asked_at=asyncio.get_running_loop().time())

    async with asyncio.timeout(1):
        assert not await lane.wait(task, 60, despite_outage=False)
    task.cancel()


async def test_the_end_of_an_outage_is_told_once() -> None:
    """A second good sign is no second end."""
    lane = Lane()
    lane.lost("gone", asked_at=asyncio.get_running_loop().time())

    with capture_logs() as lines:
        lane.found()
        lane.found()

    assert [line["event"] for line in lines] == ["store_back"]
    assert not lane.is_away


async def test_a_call_from_before_the_end_of_an_outage_begins_no_new_one() -> None:
    """It failed late for an old reason; the next call will tell."""
    lane = Lane()
    asked_at = asyncio.get_running_loop().time()
    lane.lost("gone", asked_at=asked_at)
    lane.found()

    lane.lost("still on its way", asked_at=asked_at)

    assert not lane.is_away


async def test_an_outage_is_felt_for_as_long_as_it_lasted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty seconds at most; a short one after a long one does not end the feeling."""
    now = 1000.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    lane = Lane()
    assert lane.recovery_seconds == 0
    for away_seconds, felt_seconds in ((300.0, 20.0), (0.5, 19.5)):
        lane.lost("gone", asked_at=now)
        now += away_seconds
        lane.found()
        assert lane.recovery_seconds == pytest.approx(felt_seconds)
    now += 20
    assert lane.recovery_seconds == 0
