"""A clock that only a test moves, and the types of the sandbox's clients."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request

Client = TestClient[Request, Application]
Connect = Callable[[Application], Awaitable[Client]]


@dataclass
class Clock:
    """Unix seconds that only a test moves."""

    seconds: float = 1_780_944_361.0

    def __call__(self) -> float:
        return self.seconds
