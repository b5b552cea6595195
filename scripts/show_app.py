"""Show one app: `python -m scripts.show_app --app ID [--json]`: its keys' state, and each user with cap and spend.

Rule: of a secret key only mode and expiry are shown, not even its digest.
"""

import argparse
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from gateway.keys import Budget
from gateway.money import usd_from_nano
from gateway.services import Services
from scripts.command import Answer, CommandRefused, lines, run
from scripts.list_apps import members, owner_text, summary
from scripts.table import table


async def show_app(services: Services, arguments: argparse.Namespace) -> Mapping[str, object]:
    """Return one app, its secret keys, every user it ever had and its grants."""
    app = await services.apps.find(arguments.app)
    if app is None:
        raise CommandRefused(f"There is no app {arguments.app}. make list-apps names those there are.")
    budgets = await members(services, app)
    return {
        **await summary(services, app),
        "publishableKey": f"pk_live_{app.app_id}",
        "testPublishableKey": f"pk_test_{app.app_id}",
        "webhook": await webhook_of(services, app.app_id),
        "secrets": [{"mode": secret.mode, "expiresAt": moment(secret.expires_ms)} for secret in app.secrets],
        "connections": [await _connection(services, budget) for budget in budgets],
    }


async def webhook_of(services: Services, app_id: str) -> dict[str, object] | None:
    """Return the webhook endpoint of an app; `secrets`: how many sign now, `gone`: when it answered 410."""
    endpoint = await services.endpoints.find(app_id)
    if endpoint is None:
        return None
    since, gone = moment(endpoint.since_ms), moment(endpoint.gone_ms)
    return {"url": endpoint.url, "secrets": len(endpoint.secrets), "since": since, "gone": gone}


async def _connection(services: Services, budget: Budget) -> dict[str, object]:
    connection = await services.connections.find(budget)
    standing = connection.standing
    return {
        "appUserId": owner_text(budget),
        "account": connection.account,
        "mode": budget.mode,
        "state": (standing.end if standing.uses else "") or standing.state or "never connected",
        "monthlyUsd": None if standing.cap_nano is None else usd_from_nano(standing.cap_nano),
        "spentUsd": usd_from_nano(standing.spent_nano),
        "heldUsd": usd_from_nano(standing.held_nano),
        "lastUsed": moment(connection.used_ms or None),
    }


def moment(ms: int | None) -> str | None:
    """Return a time in unix ms as people read it."""
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")


def _shown(answer: Answer, _: argparse.Namespace) -> Iterator[str]:
    lists = ("secrets", "connections")
    yield from lines({name: value for name, value in answer.items() if name not in lists})
    for name in lists:
        yield f"{name}:" if answer[name] else f"{name}: none"
        yield from (f"  {line}" for line in table(answer[name]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="show_app", description="Show one app.")
    parser.add_argument("--app", required=True, help="the app id")
    run(parser, show_app, show=_shown)
