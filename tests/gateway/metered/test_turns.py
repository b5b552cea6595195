"""Work of one name is done one at a time, in the order of arrival; that of another name beside it."""

import asyncio
import json
import threading

import pytest

from gateway.metered import expected
from gateway.metered.body import ChatRequest
from gateway.metered.turns import turn_of
from tests.fakes import FakeOpenRouter
from tests.gateway.stack import Stack, question


async def test_only_work_of_the_same_name_waits() -> None:
    """Work of other names runs at the same time, and a name without work is forgotten."""
    async with turn_of("a"):
        assert turn_of("a").locked()
        assert not turn_of("b").locked()
    assert not turn_of("a").locked()


@pytest.mark.parametrize(
    ("path", "place", "name"),
    [("/v1/chat/completions", ChatRequest, "parse"), ("/v1/messages/count_tokens", expected, "measured")],
)
async def test_an_app_has_one_large_body_read_and_counted_at_a_time(
    stack: Stack, openrouter: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch, path: str, place: object, name: str
) -> None:
    """Otherwise one app could take every thread, and the requests of all other apps would wait."""
    work, go_on, most, running = getattr(place, name), threading.Event(), 0, 0

    def slow(*given: object) -> object:
        nonlocal most, running
        running += 1
        most = max(most, running)
        go_on.wait()
        running -= 1
        return work(*given)

    monkeypatch.setattr(place, name, slow)
    body = json.dumps(question(text="word " * 20_000)).encode()
    headers = stack.as_user()
    asking = [asyncio.create_task(stack.ask("POST", path, body=body, headers=headers)) for _ in range(3)]
    while not running:
        await asyncio.sleep(0.01)
    for _ in range(10):
        # What the others sent is here by then.
        await stack.ask("GET", "/healthz")
    go_on.set()
    assert {(await each).status for each in asking} == {200}
    assert most == 1
