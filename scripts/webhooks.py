"""The webhooks of an app: `python -m scripts.webhooks --app ID [--test | --replay WHEN | --rotate-secret]`.

Rule: a replay sends the events under the ids they had, so a receiver that keeps ids processes none twice.
"""

import argparse
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime

from gateway import keys
from gateway.keys import Budget
from gateway.payers.apps import App
from gateway.services import Services
from gateway.webhooks.delivery import Delivery
from gateway.webhooks.endpoints import Endpoint
from gateway.webhooks.messages import message_id_of, place_of, trial_message
from scripts.command import Answer, CommandRefused, lines, run
from scripts.list_apps import members, owner_text
from scripts.rotate_secret import MAX_GRACE_SECONDS
from scripts.show_app import moment, webhook_of
from scripts.table import table

_SET_ONE = 'make update-app ARGS="--app ID --webhook-url URL" sets one'
# Time for an app to deploy the new secret; both sign until then.
_GRACE_SECONDS = 86_400


async def webhooks(services: Services, arguments: argparse.Namespace) -> Mapping[str, object]:
    """Do what was asked; by default show the endpoint, undelivered events and those that were given up."""
    app = await services.apps.find(arguments.app)
    if app is None:
        raise CommandRefused(f"There is no app {arguments.app}. make list-apps names those there are.")
    if arguments.rotate_secret:
        return await _rotated(services, app, arguments.grace)
    endpoint = await services.endpoints.find(app.app_id)
    if arguments.test:
        return await _tried(services, endpoint)
    if arguments.replay is not None:
        return await _replayed(services, app, endpoint, arguments)
    return {
        "webhook": await webhook_of(services, app.app_id),
        "waiting": [row async for row in _waiting(services, app, endpoint)] if endpoint else [],
        "givenUp": await services.endpoints.undelivered(app.app_id),
    }


async def _rotated(services: Services, app: App, grace_seconds: int) -> Mapping[str, object]:
    if not 0 <= grace_seconds <= MAX_GRACE_SECONDS:
        raise CommandRefused(f"--grace must be 0 to {MAX_GRACE_SECONDS} seconds.")
    try:
        return {"webhookSecret": await services.endpoints.rotate(app.app_id, grace_seconds=grace_seconds)}
    except KeyError:
        raise CommandRefused(f"This app has no webhook; {_SET_ONE}.") from None


async def _tried(services: Services, endpoint: Endpoint | None) -> Mapping[str, object]:
    """Send a test event now, once."""
    settings = services.settings.webhooks
    message = trial_message(_living(endpoint).app_id, time.time_ns() // 1_000_000)
    delivery = Delivery(seconds=settings.seconds, loopback=settings.loopback)
    try:
        outcome = await delivery.send(_living(endpoint).url, _living(endpoint).secrets, message)
    finally:
        await delivery.close()
    fields = {"webhookId": message.message_id, "status": outcome.status, "failure": outcome.failure or None}
    return {"ok": outcome.is_delivered, **fields}


async def _replayed(
    services: Services, app: App, endpoint: Endpoint | None, arguments: argparse.Namespace
) -> Mapping[str, object]:
    """Replay events: all since a time, or one user's or grant's from an event on."""
    _living(endpoint)
    if (place := place_of(arguments.replay)) is not None:
        account, entry_id = place
        name = await services.store.call("GET", keys.account(account))
        budgets = [Budget.parse(name.decode())] if name else []
    else:
        entry_id, budgets = f"{_time_ms(arguments.replay)}-0", await members(services, app)
    if arguments.user is not None:
        budgets = [budget for budget in budgets if owner_text(budget) == arguments.user]
    budgets = [budget for budget in budgets if budget.app_id == app.app_id]
    if not budgets:
        raise CommandRefused("This app has no such user, grant or event. make show-app lists users and grants.")
    replayed = [budget for budget in budgets if await services.ledger.events.replay(budget, entry_id)]
    return {"replayed": [{"appUserId": owner_text(budget), "mode": budget.mode} for budget in replayed]}


async def _waiting(services: Services, app: App, endpoint: Endpoint) -> AsyncIterator[dict[str, object]]:
    """Yield the next undelivered event of each user and grant."""
    for budget in await members(services, app):
        found = await services.ledger.events.peek(budget, since_ms=endpoint.since_ms)
        if found is not None:
            event, wait_ms = found
            yield {
                "webhookId": message_id_of(services.connections.account(budget), event.entry_id),
                "type": event.fields["event"],
                "appUserId": owner_text(budget),
                "mode": budget.mode,
                "at": moment(event.at_ms),
                "tries": event.tries,
                "nextInSeconds": wait_ms // 1000,
            }


def _living(endpoint: Endpoint | None) -> Endpoint:
    if endpoint is None:
        raise CommandRefused(f"This app has no webhook; {_SET_ONE}.")
    if endpoint.gone_ms is not None:
        raise CommandRefused(f"This app's server answered 410 Gone, which switched its webhook off; {_SET_ONE} again.")
    return endpoint


def _time_ms(text: str) -> int:
    if re.fullmatch(r"\d{1,11}", text):
        return int(text) * 1000
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise CommandRefused(
            "--replay takes a webhook-id, a time such as 2026-11-26T16:00Z, or unix seconds."
        ) from None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)


def _shown(answer: Answer, _: argparse.Namespace) -> Iterator[str]:
    for name, value in answer.items():
        if isinstance(value, list):
            yield f"{name}:" if value else f"{name}: none"
            yield from (f"  {line}" for line in table(value))
        else:
            yield from lines({name: value})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="webhooks", description="The webhooks of an app.")
    parser.add_argument("--app", required=True, help="the app id")
    wish = parser.add_mutually_exclusive_group()
    wish.add_argument("--test", action="store_true", help="send an event of type webhook.test, and say what came of it")
    wish.add_argument("--replay", metavar="WHEN", help="send again: events since a time, or from a webhook-id on")
    wish.add_argument("--rotate-secret", action="store_true", help="a new secret; the old one signs too for --grace")
    parser.add_argument("--user", metavar="U", help="with --replay: of this user alone")
    parser.add_argument("--grace", type=int, default=_GRACE_SECONDS, metavar="SECONDS", help="a day, if left out")
    run(parser, webhooks, show=_shown)
