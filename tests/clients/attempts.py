"""Records the retries of client libraries, and defines the failures they are tested with.

Rule: a library runs with its default settings. Base URL, key and our header are given; its HTTP client is observed.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from itertools import pairwise

import httpx2

from tests.fakes import Exchange, FakeOpenRouter, Play, refuses, streams, whole_answer
from tests.gateway.stack import PATIENCE_SECONDS, USER, Stack, question

RETRIED = 3
"""How often both libraries send a request that they may repeat: once, and two more times."""
UNPRICED = "acme/router"
"""A model without a price, for which all that is left is held."""
MOST_TOKENS = 16_000
"""As many as the model writes: 0.032 USD, which the usual cap carries."""
STREAM = {"Content-Type": "text/event-stream", "X-Generation-Id": "gen-1"}


@dataclass(slots=True)
class RecordedAttempts:
    """Every request that a library sent, counted by its HTTP client."""

    paths: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """When each was sent, in seconds of the loop's clock."""
    statuses: list[int] = field(default_factory=list)
    refused: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when one was refused."""

    async def note(self, request: httpx2.Request) -> None:
        """Count one."""
        self.paths.append(request.url.path)
        self.times.append(asyncio.get_running_loop().time())

    async def note_answer(self, response: httpx2.Response) -> None:
        """Record the response."""
        self.statuses.append(response.status_code)
        if response.is_error:
            self.refused.set()

    @property
    def waits_seconds(self) -> list[float]:
        """How long the library waited before each attempt but the first."""
        return [later - sooner for sooner, later in pairwise(self.times)]

    @property
    def hooks(self) -> dict[str, list[Callable[..., object]]]:
        """For the HTTP client's `event_hooks`."""
        return {"request": [self.note], "response": [self.note_answer]}


async def hang_up(turn: Exchange) -> None:
    """Take a request and close the connection on it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failing request: its user, its cause, and the library's expected reaction.

    `attempts`: how often the gateway is called; `asked`: how often OpenRouter is called.
    """

    name: str
    status: int
    code: str
    attempts: int
    asked: int
    user: str = USER
    secret: str | None = None
    play: Play = whole_answer
    retry_after: str | None = None


FAILURES = (
    Failure("not connected", 402, "not_connected", 1, 0, user="nobody"),
    Failure("over the cap", 402, "budget_exceeded", 1, 0, user="poor"),
    Failure("wrong key", 401, "auth", 1, 0, secret="sk_live_x_y"),
    Failure(
        "429 with Retry-After",
        429,
        "rate_limited",
        RETRIED,
        RETRIED,
        play=refuses(429, {"code": 429, "message": "slow down"}, {"Retry-After": "1"}),
        retry_after="1",
    ),
    Failure("502", 502, "upstream", RETRIED, RETRIED, play=refuses(502, {"code": 502, "message": "no provider"})),
    Failure("hung up on", 502, "upstream", 1, 1, play=hang_up),
)


async def meet(failure: Failure, stack: Stack, openrouter: FakeOpenRouter) -> None:
    """Make the requests of `failure.user` fail as specified. The cap of the user `poor` is below any prompt's cost."""
    await stack.connect("0.000001", user="poor")
    openrouter.play = failure.play


def whole(document: bytes) -> Play:
    """A play that answers with this document."""

    async def play(turn: Exchange) -> None:
        await turn.refuse(200, document, {"X-Generation-Id": "gen-1"})

    return play


def says(*pieces: bytes) -> Play:
    """A play that streams these pieces and ends in order."""
    return streams(list(pieces), STREAM)


def cuts(*pieces: bytes) -> Play:
    """A play that streams these pieces and hangs up."""

    async def play(turn: Exchange) -> None:
        await turn.head(200, STREAM)
        for piece in pieces:
            await turn.send(piece)

    return play


@contextlib.asynccontextmanager
async def held_by_another(
    stack: Stack, openrouter: FakeOpenRouter, attempts: RecordedAttempts, play: Play
) -> AsyncIterator[None]:
    """Have another request hold the user's whole budget until one was refused for it; `play` answers the others."""

    async def answer(turn: Exchange) -> None:
        if json.loads(turn.request.body)["model"] == UNPRICED:
            await attempts.refused.wait()
            await whole_answer(turn)
        else:
            await play(turn)

    openrouter.play = answer
    holding = asyncio.create_task(stack.chat(question(UNPRICED)))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not openrouter.received:
            await asyncio.sleep(0)
    yield
    assert (await holding).status == 200


@dataclass(slots=True)
class OpenAnswer:
    """A play that streams `sent` and no more; `left` is set when the gateway has hung up."""

    sent: bytes
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, turn: Exchange) -> None:
        """Play it."""
        await turn.head(200, STREAM)
        await turn.send(self.sent)
        await turn.until_closed()
        self.left.set()
