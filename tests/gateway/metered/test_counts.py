"""What one request may cost, counted and not timed: tasks, timers, Redis commands, writes."""

import asyncio
from asyncio import selector_events
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from gateway.metered.inflight import OpenRequest
from gateway.store import scripts
from gateway.store.connection import Pipe
from tests.fakes import EVENT_STREAM, STREAMED, Exchange, FakeOpenRouter
from tests.gateway.stack import PATIENCE_SECONDS, Stack, question

# Commands that a request's task sends at most twice in a lease, so that a request seldom has one.
_BESIDE = {"index"}
_AT_ONCE = 20


class Counts:
    """What was made since `begin`: tasks and timers of the gateway's, Redis commands by name, writes by direction."""

    def __init__(self, stack: Stack, openrouter: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch) -> None:
        # The text of "admit" contains settings, so its name is not among these.
        self._names = {script.sha: name for name, script in scripts.load().items()}
        self.tasks: list[str] = []
        self.timers: list[str] = []
        self.commands: Counter[str] = Counter()
        self.writes: Counter[str] = Counter()
        loop = asyncio.get_running_loop()
        create_task, call_at, send = loop.create_task, loop.call_at, Pipe.send
        socket_transport = vars(selector_events)["_SelectorSocketTransport"]
        write = socket_transport.write

        def counted_task(coroutine: Any, **more: Any) -> "asyncio.Task[Any]":
            name = coroutine.cr_code.co_filename
            if "/gateway/" in name and "/tests/" not in name and _is_of_a_request():
                self.tasks.append(coroutine.__qualname__)
            return create_task(coroutine, **more)

        def counted_timer(when: float, callback: Callable[..., object], *args: Any, **more: Any) -> asyncio.TimerHandle:
            if asyncio.current_task() is not None and _is_of_a_request():
                self.timers.append(callback.__qualname__)
            return call_at(when, callback, *args, **more)

        def counted_command(pipe: Pipe, packed: bytes, sink: Any) -> None:
            words = packed.split(b"\r\n")
            name = self._names.get(words[4].decode(), "admit") if words[2] == b"EVALSHA" else words[2].decode()
            if name not in _BESIDE and _is_of_a_request():
                self.commands[name] += 1
            send(pipe, packed, sink)

        def counted_write(transport: Any, data: bytes) -> None:
            here, there = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
            if isinstance(there, str) and there:
                self.writes["redis"] += 1
            elif isinstance(there, tuple):
                self.writes[
                    "upstream" if there[1] == openrouter.port else "caller" if here[1] == stack.port else ""
                ] += 1
            write(transport, data)

        monkeypatch.setattr(loop, "create_task", counted_task)
        monkeypatch.setattr(loop, "call_at", counted_timer)
        monkeypatch.setattr(Pipe, "send", counted_command)
        monkeypatch.setattr(socket_transport, "write", counted_write)


def _is_of_a_request() -> bool:
    """Return whether a request or a connection's callback runs, and not a background task: beats, signs, sweeps."""
    task = asyncio.current_task()
    return task is None or ".start " in repr(task.get_coro())


async def test_a_plain_request_makes_no_task_no_timer_and_three_commands(
    stack: Stack, openrouter: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Admit, sent, settle: the id of a whole answer rides in the settlement. One write up, one write down."""
    assert (await stack.chat()).status == 200
    counts = Counts(stack, openrouter, monkeypatch)
    assert (await stack.chat()).status == 200
    await stack.quiet()
    assert (counts.tasks, counts.timers) == ([], [])
    assert (counts.commands["admit"], counts.commands["settle"], counts.commands.total()) == (1, 1, 3)
    assert (counts.writes["upstream"], counts.writes["caller"]) == (1, 1)


async def test_a_stream_makes_no_task_no_timer_and_four_commands(
    stack: Stack, openrouter: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Admit, sent, the generation id, settle. Each piece that was read is one write."""
    relayed = asyncio.Event()

    async def streamed(turn: Exchange) -> None:
        relayed.clear()
        await turn.head(headers={**EVENT_STREAM, "X-Generation-Id": "gen-1-fake"})
        await turn.send(STREAMED[:27])
        await relayed.wait()
        await turn.send(STREAMED[27:])
        await turn.end()

    def reached(_: OpenRequest, point: str) -> None:
        if point == "relayed":
            relayed.set()

    monkeypatch.setattr(OpenRequest, "reach", reached)
    openrouter.play = streamed
    assert (await stack.chat(question(stream=True))).status == 200
    counts = Counts(stack, openrouter, monkeypatch)
    assert (await stack.chat(question(stream=True))).status == 200
    await stack.quiet()
    assert (counts.tasks, counts.timers) == ([], [])
    assert (counts.commands["admit"], counts.commands["settle"], counts.commands.total()) == (1, 1, 4)
    assert counts.writes["upstream"] == 1
    assert counts.writes["caller"] <= 3


async def test_under_load_the_commands_of_a_turn_share_a_write(
    stack: Stack, openrouter: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty callers at once cost fewer writes to Redis than commands, and one write each up and down."""
    # The app's record is kept for a second, in which a slow machine may not get to the second round.
    monkeypatch.setattr("gateway.payers.apps._CACHE_SECONDS", PATIENCE_SECONDS)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(*(stack.chat() for _ in range(_AT_ONCE)))
        counts = Counts(stack, openrouter, monkeypatch)
        answers = await asyncio.gather(*(stack.chat() for _ in range(_AT_ONCE)))
    await stack.quiet()
    assert {answer.status for answer in answers} == {200}
    assert counts.commands.total() == 3 * _AT_ONCE
    assert counts.writes["redis"] < 2 * _AT_ONCE
    assert (counts.writes["upstream"], counts.writes["caller"]) == (_AT_ONCE, _AT_ONCE)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_status_asked_for_right_after_the_last_byte_counts_the_answer(stack: Stack, *, stream: bool) -> None:
    """Within one process the settlement precedes the status request in the single queue to Redis."""
    spent = 0
    for _ in range(20):
        assert (await stack.chat(question(stream=stream))).status == 200
        document = (
            await stack.ask("GET", "/v1/status?appUserId=ada", headers={"Authorization": f"Bearer {stack.secret}"})
        ).document
        assert document["usage"]["monthlyUsd"] > spent
        spent = document["usage"]["monthlyUsd"]
