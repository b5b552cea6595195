"""After a hang-up of either side at any byte, the true cost is requested and booked to the nano-USD."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from gateway.ledger.record import Hold
from gateway.settings import Settings
from tests.faults.openrouter import Plan, PlannedOpenRouter, ask_raw
from tests.faults.world import until
from tests.gateway.recordings import recording
from tests.gateway.stack import Stack, open_stack, question, settings_for

pytestmark = pytest.mark.each_store

RECORDED = recording("haiku-bedrock-plain")
STREAM = RECORDED.body
STATED_NANO = int((RECORDED.cost or 0) * 10**9)
# From here on the bytes hold the whole usage event, and with it the cost.
USAGE_END = STREAM.rindex(b"\n\ndata: [DONE]")
FIRST_EVENT_END = STREAM.index(b"}\n\n", STREAM.index(b"data: {")) + 3
RECORDED_ID = re.findall(rb'"id":"(gen-[^"]+)"', STREAM)[0]
PAYERS = 40
OFFSETS = range(1, len(STREAM))


@pytest.fixture
async def openrouter() -> AsyncIterator[PlannedOpenRouter]:
    """A fake OpenRouter that states costs late."""
    fake = PlannedOpenRouter()
    async with fake.running():
        yield fake


@pytest.fixture
async def stack(redis_url: str, openrouter: PlannedOpenRouter) -> AsyncIterator[Stack]:
    """A gateway that sweeps, and its payers."""
    settings: Settings = settings_for(redis_url, openrouter.url)
    async with open_stack(settings) as running:
        for payer in range(PAYERS):
            await running.connect(user=f"payer-{payer}")
        yield running


@dataclass(frozen=True, slots=True)
class CutRequest:
    """One request that ended after `offset` bytes, and what it cost in truth."""

    payer: str
    request_id: str
    offset: int
    cost_nano: int


def _plan(offset: int, then: str, *, header: bool) -> Plan:
    cost = STATED_NANO if offset >= USAGE_END else 3_000 + offset
    # An id of the recorded one's length, so that every offset means the same byte.
    generation_id = f"gen-{offset}-{then}-".ljust(len(RECORDED_ID), "0")
    body = STREAM.replace(RECORDED_ID, generation_id.encode())
    return Plan(body, generation_id, cost, stop_at=offset, then=then, header=header)


async def _client_leaves(stack: Stack, fake: PlannedOpenRouter, payer: str, offset: int, *, header: bool) -> CutRequest:
    plan = _plan(offset, "wait", header=header)
    named = fake.add(plan)
    answer = await ask_raw(stack.port, stack.as_user(payer), question(stream=True, max_tokens=16, metadata=named))
    await answer.read_head()
    assert await answer.read(offset) == plan.body[:offset]
    await answer.hang_up()
    await plan.gone.wait()
    return CutRequest(payer, answer.headers["x-wattfare-request-id"], offset, plan.cost_nano)


async def _upstream_breaks(
    stack: Stack, fake: PlannedOpenRouter, payer: str, offset: int, *, header: bool
) -> CutRequest:
    plan = _plan(offset, "cut", header=header)
    named = fake.add(plan)
    answer = await ask_raw(stack.port, stack.as_user(payer), question(stream=True, max_tokens=16, metadata=named))
    await answer.read_head()
    with contextlib.suppress(asyncio.IncompleteReadError):
        await answer.read()
    assert not answer.is_whole, "a cut answer must not look whole"
    assert bytes(answer.body) == plan.body[:offset]
    await answer.hang_up()
    return CutRequest(payer, answer.headers["x-wattfare-request-id"], offset, plan.cost_nano)


Act = Callable[[str, int], Awaitable[CutRequest]]


async def _everywhere(act: Act, offsets: "range | list[int]") -> list[CutRequest]:
    """Act at every offset, each payer one after the other."""

    async def one(payer: int) -> list[CutRequest]:
        return [await act(f"payer-{payer}", offset) for offset in offsets[payer::PAYERS]]

    return [cut for found in await asyncio.gather(*map(one, range(PAYERS))) for cut in found]


async def _closed(stack: Stack, cut: CutRequest) -> tuple[str, int]:
    """How a request was closed in the end: its status and cost."""
    ledger, budget = stack.gateway.services.ledger, stack.budget(cut.payer)
    hold: Hold | None = None

    async def is_closed() -> bool:
        nonlocal hold
        hold = await ledger.hold(budget, cut.request_id)
        return hold is not None and not hold.is_open

    await until(is_closed)
    assert hold is not None
    return hold.state, hold.cost_nano or 0


async def _books_agree(stack: Stack, cuts: list[CutRequest]) -> None:
    for payer in {cut.payer for cut in cuts}:
        standing = await stack.standing(payer)
        assert (standing.held_nano, standing.spent_nano) == (
            0,
            sum(cut.cost_nano for cut in cuts if cut.payer == payer),
        )


@pytest.mark.parametrize("leaves", [_client_leaves, _upstream_breaks], ids=["client", "upstream"])
async def test_a_stream_that_ends_after_any_byte_is_booked_at_its_true_cost(
    stack: Stack, openrouter: PlannedOpenRouter, leaves: Callable[..., Awaitable[CutRequest]], redis_url: str
) -> None:
    """Every byte offset of a recorded stream (on a Cluster every third); OpenRouter's id is in the headers."""
    offsets = OFFSETS[::3] if redis_url.startswith("redis+cluster") else OFFSETS
    cuts = await _everywhere(lambda payer, offset: leaves(stack, openrouter, payer, offset, header=True), offsets)
    assert len(cuts) == len(offsets)
    wrong = [
        (cut.offset, closed) for cut in cuts if (closed := await _closed(stack, cut)) != ("settled", cut.cost_nano)
    ]
    assert wrong == []
    await _books_agree(stack, cuts)


@pytest.mark.parametrize("leaves", [_client_leaves, _upstream_breaks], ids=["client", "upstream"])
async def test_without_an_id_in_the_headers_the_first_event_is_enough(
    stack: Stack,
    openrouter: PlannedOpenRouter,
    leaves: Callable[..., Awaitable[CutRequest]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An id only in the body is known after its first event; before that only an estimate is possible."""
    monkeypatch.setattr("gateway.metered.inflight.UNTIL_ID_SECONDS", 0.1)
    offsets = sorted({*OFFSETS[::7], FIRST_EVENT_END, USAGE_END})
    cuts = await _everywhere(lambda payer, offset: leaves(stack, openrouter, payer, offset, header=False), offsets)
    for cut in cuts:
        status, cost_nano = await _closed(stack, cut)
        if cut.offset >= FIRST_EVENT_END:
            assert (status, cost_nano) == ("settled", cut.cost_nano), cut.offset
        else:
            assert status in ("estimated", "settled"), cut.offset
