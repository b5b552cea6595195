"""Accept a Redis that came back empty or older: `python -m scripts.accept_store --yes`.

Rule: lost data stays lost. Restore a backup first if there is one.
"""

import argparse
from collections.abc import Mapping

from gateway.services import Services
from scripts.command import CommandRefused, run


async def accept_store(services: Services, arguments: argparse.Namespace) -> Mapping[str, object]:
    """Give this Redis a new epoch, which every process accepts from now on, even if data is missing in it."""
    if not arguments.yes:
        raise CommandRefused(
            "What this Redis has lost stays lost, spend included. Say --yes if that is known and meant."
        )
    await services.store.beat(accept=True)
    return {"accepted": True}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="accept_store", description="Accept a Redis that lost data.")
    parser.add_argument("--yes", action="store_true", help="what is lost is known")
    run(parser, accept_store, despite_doubt=True)
