"""List every app with origins, users and spend of the rolling month: `python -m scripts.list_apps [--json]`."""

import argparse
from collections.abc import Iterator, Mapping

from gateway.keys import Budget
from gateway.money import usd_from_nano
from gateway.owners import User
from gateway.payers.apps import MODES, App
from gateway.services import Services
from scripts.command import Answer, run
from scripts.table import table


async def list_apps(services: Services, _: argparse.Namespace) -> Mapping[str, object]:
    """Return the summary of every app."""
    return {"apps": [await summary(services, app) for app in await services.apps.every()]}


async def summary(services: Services, app: App) -> dict[str, object]:
    """Return one app as JSON: `users`: number connected in live mode; `usage.monthlyUsd`: live spend of 30 days."""
    live = {budget: await services.ledger.standing(budget) for budget in await members(services, app, "live")}
    return {
        "appId": app.app_id,
        "name": app.name,
        "origins": sorted(app.origins),
        "returnUrls": sorted(app.return_urls),
        "closed": app.is_closed,
        "users": sum(standing.is_connected and isinstance(budget.owner, User) for budget, standing in live.items()),
        "usage": {"monthlyUsd": usd_from_nano(sum(standing.spent_nano for standing in live.values()))},
    }


async def members(services: Services, app: App, mode: str | None = None) -> list[Budget]:
    """Return every budget of an app in one mode or both: its users', then its grants' while their ledgers are kept."""
    of, modes = services.connections, MODES if mode is None else (mode,)
    return [
        budget for each in modes for budget in (*await of.members(each, app.app_id), *await of.grants(each, app.app_id))
    ]


def owner_text(budget: Budget) -> str:
    """Return a budget's owner as text: the app's user id, or `grant:` and the start of the token's digest."""
    owner = budget.owner
    return owner.user_id if isinstance(owner, User) else f"grant:{owner.digest[:16]}"


def _shown(answer: Answer, _: argparse.Namespace) -> Iterator[str]:
    if not answer["apps"]:
        yield 'There is no app yet. make create-app ARGS="--name N --origin URL" registers one.'
    yield from table([{**app, "usage": app["usage"]["monthlyUsd"]} for app in answer["apps"]])


if __name__ == "__main__":
    run(argparse.ArgumentParser(prog="list_apps", description="List every app."), list_apps, show=_shown)
