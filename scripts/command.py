"""Runs an operator's command: parses arguments, opens the stores, prints the answer, or one line on failure.

Rule: the answer goes to standard output; the reason of a failure goes to standard error, with exit code 1.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

from devstore.embedded import EmbeddedError
from gateway import logs
from gateway.environment import SettingsError
from gateway.errors import WattfareError
from gateway.services import Services, open_services
from gateway.settings import Settings
from scripts.settings import command_environment
from scripts.table import as_text

# Longer than a request's deadline: an operator's command may wait for a busy Redis.
_DEADLINE_MS = 5000

Answer = Mapping[str, Any]
Work = Callable[[Services, argparse.Namespace], Awaitable[Mapping[str, object]]]
Show = Callable[[Answer, argparse.Namespace], Iterable[str]]


def lines(answer: Answer, _: argparse.Namespace | None = None) -> Iterator[str]:
    """Yield an answer as text for people: each row of a list on its own line."""
    for name, value in answer.items():
        if isinstance(value, list) and value:
            yield f"{name}:"
            yield from (f"  {as_text(row)}" for row in value)
        else:
            yield f"{name}: {as_text(value)}"


def exit_code(answer: Answer) -> int:
    """Return 1 if the answer's `ok` is false, else 0."""
    return int(answer.get("ok") is False)


class CommandRefused(Exception):
    """The command cannot be carried out; the message says what to do."""


def run(
    parser: argparse.ArgumentParser,
    work: Work,
    *,
    despite_doubt: bool = False,
    show: Show = lines,
    code: Callable[[Answer], int] = exit_code,
) -> None:
    """Parse, open the stores, do the work and print its answer (`--json`: as JSON; else as `show` says it).

    Exits 1 with one line on failure, and after the answer with the `code` that it stands for.
    `despite_doubt`: also on a Redis that is refused because it may have lost data.
    """
    parser.add_argument("--json", action="store_true", help="print the answer as one JSON object")
    arguments = parser.parse_args()
    logs.silence()
    try:
        answer = asyncio.run(_within(arguments, work, despite_doubt=despite_doubt))
    except (SettingsError, EmbeddedError, CommandRefused, OSError) as refused:
        sys.exit(f"{parser.prog}: {refused}")
    except WattfareError as failed:
        sys.exit(f"{parser.prog}: {failed.message}")
    for line in (json.dumps(answer),) if arguments.json else show(answer, arguments):
        print(line)
    sys.exit(code(answer))


async def _within(arguments: argparse.Namespace, work: Work, *, despite_doubt: bool) -> Mapping[str, object]:
    settings = Settings.load(command_environment()).with_redis_deadline(_DEADLINE_MS)
    async with open_services(settings) as services:
        if not services.store.is_open and not despite_doubt:
            raise CommandRefused(services.store.why_closed)
        return await work(services, arguments)
