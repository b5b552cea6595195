"""Import a connection: `python -m scripts.connect_user --app ID --user U --monthly-usd X --openrouter-key K`.

Rule: a key that OpenRouter refuses is refused here too, unless `--unchecked` is given.
"""

import argparse
import sys
from collections.abc import Mapping

from consent_web.openrouter import OpenRouter
from gateway.errors import FundingInvalid, UpstreamError
from gateway.keys import Budget
from gateway.money import nano_from_usd
from gateway.openrouter.client import Client
from gateway.payers.connections import Approval
from gateway.payers.identity import user_id_fault
from gateway.services import Services
from scripts.command import CommandRefused, run


async def connect_user(services: Services, arguments: argparse.Namespace) -> Mapping[str, object]:
    """Connect a user as the operator, and return their ConnectionStatus."""
    if await services.apps.find(arguments.app) is None:
        raise CommandRefused(f"There is no app {arguments.app}.")
    fault = user_id_fault(arguments.user)
    if fault is not None:
        raise CommandRefused(f"--user {fault}.")
    cap_nano = _cap(arguments)
    key = arguments.openrouter_key
    if arguments.mode == "live" and (not key or not key.isascii() or not key.isprintable() or " " in key):
        raise CommandRefused("--openrouter-key is needed in live mode: a key as OpenRouter gives it, sk-or-v1-….")
    if arguments.mode == "live" and not arguments.unchecked:
        await _check(services, key)
    budget = Budget.of_user(arguments.mode, arguments.app, arguments.user)
    await services.connections.approve(budget, Approval(cap_nano, key if arguments.mode == "live" else None))
    return await services.connections.status(budget)


async def _check(services: Services, key: str) -> None:
    """Check a key at OpenRouter. Raises CommandRefused if OpenRouter refuses it, or if it is a management key."""
    client = Client.of(services.settings)
    try:
        facts = await OpenRouter(services.settings.openrouter_base_url, client).facts(key)
    except FundingInvalid as refused:
        raise CommandRefused(f"{refused.message} --unchecked takes it all the same.") from None
    except UpstreamError as away:
        # An import must not depend on OpenRouter's availability; a bad key fails at its first request.
        print(f"connect_user: the key was not checked. {away.message}", file=sys.stderr)
        return
    finally:
        await client.close()
    if facts.is_management:
        raise CommandRefused("This is a management key, which can pay for nothing. --unchecked takes it all the same.")


def _cap(arguments: argparse.Namespace) -> int | None:
    if arguments.monthly_usd is None:
        if arguments.mode == "live":
            raise CommandRefused("--monthly-usd is needed in live mode: there is no connection without a cap.")
        return None
    try:
        cap_nano = nano_from_usd(arguments.monthly_usd)
    except ValueError as fault:
        raise CommandRefused(f"--monthly-usd {fault}.") from None
    if cap_nano == 0:
        raise CommandRefused("--monthly-usd must be more than 0.")
    return cap_nano


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="connect_user", description="Import a connection.")
    parser.add_argument("--app", required=True, help="the app id")
    parser.add_argument("--user", required=True, help="the app's own user id")
    parser.add_argument("--monthly-usd", help="the cap in US dollars")
    parser.add_argument("--openrouter-key", help="the user's OpenRouter key")
    parser.add_argument("--unchecked", action="store_true", help="take a key that OpenRouter refuses, too")
    parser.add_argument("--mode", choices=("live", "test"), default="live")
    run(parser, connect_user)
