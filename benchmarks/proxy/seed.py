"""Connects users u0, u1, … to an app, run by the checkout whose app it is: `python seed.py --app ID --users N`.

Only what `scripts.connect_user` offers is used, so it seeds other versions of the project too.
"""

import argparse
import asyncio
from collections.abc import Mapping

from gateway.services import Services
from scripts.command import run
from scripts.connect_user import connect_user

# The number of concurrent calls that keeps Redis and this process busy.
_AT_ONCE = 64


async def connect_users(services: Services, arguments: argparse.Namespace) -> Mapping[str, object]:
    """Connect the users `--first` to `--users` - 1, all with the same cap and funding key."""
    numbers = iter(range(arguments.first, arguments.users))

    async def connect_some() -> None:
        for number in numbers:
            # Unchecked, because the benchmark's upstream has no key endpoint.
            one = {"user": f"u{number}", "monthly_usd": "1000000", "mode": "live", "unchecked": True}
            await connect_user(services, argparse.Namespace(**{**vars(arguments), **one}))

    await asyncio.gather(*(connect_some() for _ in range(_AT_ONCE)))
    return {"connected": arguments.users - arguments.first}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="seed", description="Connect many users.")
    parser.add_argument("--app", required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--users", type=int, required=True)
    parser.add_argument("--openrouter-key", required=True)
    run(parser, connect_users)
