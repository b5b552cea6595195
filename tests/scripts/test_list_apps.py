"""Listing apps and showing one: users, caps and spend."""

import argparse
import json

import pytest

from gateway.ledger.outcomes import Settlement
from scripts.command import CommandRefused
from scripts.list_apps import list_apps, owner_text, summary
from scripts.show_app import show_app
from tests.gateway.process import command, environment
from tests.gateway.stack import ORIGIN, Stack
from tests.scripts.books import spend

pytestmark = pytest.mark.each_store


async def test_each_app_is_listed_with_its_users_and_the_spend_of_the_window(redis_url: str, stack: Stack) -> None:
    """Live mode only; a revoked user's spend stays in the sum. The text output is a table."""
    services = stack.gateway.services
    await stack.connect(user="eve")
    await stack.connect_test(user="tess")
    await spend(services, "one", Settlement("settled", 3_000), budget=stack.budget("eve"))
    await services.connections.revoke(stack.budget("eve"))
    (app,) = (each for each in (await list_apps(services, argparse.Namespace()))["apps"] if each["users"])  # type: ignore[attr-defined]
    assert app["appId"] == stack.app["appId"]
    assert (app["origins"], app["closed"], app["users"]) == ([ORIGIN], False, 1)
    assert app["usage"] == {"monthlyUsd": 3e-06}
    code, out, _ = await command("scripts.list_apps", variables=environment(redis_url))
    names, *rows = out.splitlines()
    assert code == 0
    assert names.split()[:2] == ["appId", "name"]
    assert any(row.startswith(stack.app["appId"]) and row.endswith("0.000003") for row in rows)


async def test_one_app_is_shown_with_its_users_and_never_a_secret(redis_url: str, stack: Stack) -> None:
    """Each user it ever had, in both modes, with cap, spend and state; of a secret only its mode."""
    await stack.connect("2.5", user="eve")
    await stack.gateway.services.connections.revoke(stack.budget("eve"))
    code, out, errors = await command(
        "scripts.show_app", "--app", stack.app["appId"], "--json", variables=environment(redis_url)
    )
    assert (code, errors) == (0, "")
    shown = json.loads(out)
    assert [each["mode"] for each in shown["secrets"]] in (["live", "test"], ["test", "live"])
    users = {each["appUserId"]: each for each in shown["connections"]}
    assert (users["eve"]["state"], users["eve"]["spentUsd"]) == ("revoked", 0)
    assert (users["ada"]["state"], users["ada"]["monthlyUsd"], users["ada"]["mode"]) == ("active", 5, "live")
    assert stack.secret.rpartition("_")[2] not in out
    _, told, _ = await command("scripts.show_app", "--app", stack.app["appId"], variables=environment(redis_url))
    assert "connections:\n  appUserId" in told


async def test_what_grants_spent_counts_and_they_are_no_users(stack: Stack) -> None:
    """Each is named by the start of its digest, with why it ended; its token is nowhere."""
    services, token = stack.gateway.services, await stack.grant(1)
    budget = stack.granted(token)
    await spend(services, "one", Settlement("settled", 3_000), budget=budget)
    app = await services.apps.find(stack.app["appId"])
    assert app is not None
    told = await summary(services, app)
    assert (told["users"], told["usage"]) == (1, {"monthlyUsd": 3e-06})
    shown = json.dumps(await show_app(services, argparse.Namespace(app=stack.app["appId"])))
    assert owner_text(budget) in shown
    assert "used_up" in shown
    assert token not in shown


async def test_an_unknown_app_cannot_be_shown(stack: Stack) -> None:
    """The error names the command that lists apps."""
    with pytest.raises(CommandRefused, match="list-apps"):
        await show_app(stack.gateway.services, argparse.Namespace(app="appnone"))
