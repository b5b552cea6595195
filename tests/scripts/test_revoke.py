"""Cutting one user, or a whole app."""

import argparse
import json

import pytest

from scripts.command import CommandRefused
from scripts.revoke import revoke
from tests.gateway.process import command, environment
from tests.gateway.stack import Stack

pytestmark = pytest.mark.each_store


async def test_a_revoked_user_is_refused_once_the_command_is_done(redis_url: str, stack: Stack) -> None:
    """In live and test mode; other users are not affected; a repeat is no error."""
    await stack.connect(user="eve")
    await stack.connect_test()
    for _ in range(2):
        arguments = ("--app", stack.app["appId"], "--user", "ada", "--json")
        code, out, errors = await command("scripts.revoke", *arguments, variables=environment(redis_url))
        assert (code, json.loads(out), errors) == (0, {"revoked": f"{stack.app['appId']}:ada"}, "")
    assert (await stack.chat()).refusal == (402, "not_connected")
    assert (await stack.chat(headers=stack.as_user(secret=stack.test_secret))).refusal == (402, "not_connected")
    assert (await stack.chat(headers=stack.as_user("eve"))).status == 200
    for mode in ("live", "test"):
        newest, _ = await stack.gateway.services.connections.receipts(stack.budget(mode=mode))
        assert (newest["event"], newest["by"]) == ("revoked", "operator")


async def _revoke(stack: Stack, **given: str | None) -> None:
    named: dict[str, str | None] = {"app": stack.app["appId"], "user": None, "mode": None, **given}
    await revoke(stack.gateway.services, argparse.Namespace(**named))


async def test_one_mode_can_be_cut_alone(stack: Stack) -> None:
    """The live connection remains."""
    await stack.connect_test()
    await _revoke(stack, user="ada", mode="test")
    assert (await stack.chat(headers=stack.as_user(secret=stack.test_secret))).refusal == (402, "not_connected")
    assert (await stack.chat()).status == 200


async def test_a_closed_app_is_refused_everywhere(stack: Stack) -> None:
    """Its secrets and its session tokens die with it; closing it again is no fault."""
    token = await stack.token()
    for _ in range(2):
        await _revoke(stack)
    assert (await stack.chat()).refusal == (401, "auth")
    answer = await stack.ask("GET", "/v1/connections", headers={"Authorization": f"Bearer {token}"})
    assert answer.refusal == (401, "auth")


async def test_closing_an_app_ends_its_connections_and_grants(stack: Stack) -> None:
    """Each learns of it in its history, once, and holds no funding key any more."""
    await stack.connect(user="eve")
    token = await stack.grant()
    for _ in range(2):
        await _revoke(stack)
    services = stack.gateway.services
    for budget in (stack.budget("ada"), stack.budget("eve"), stack.granted(token)):
        standing = await services.ledger.standing(budget)
        assert (standing.state, "funding" in standing.fields) == ("revoked", False)
        newest, _ = await services.connections.receipts(budget)
        assert (newest["event"], newest["by"]) == ("closed", "operator")


async def test_an_unknown_app_is_refused(stack: Stack) -> None:
    """A typing error must not look like a revocation."""
    with pytest.raises(CommandRefused):
        await _revoke(stack, app="appnone", user="ada")
    with pytest.raises(CommandRefused):
        await _revoke(stack, app="appnone")


@pytest.mark.parametrize("mode", [None, "live", "test"])
async def test_a_user_who_was_never_connected_is_refused(stack: Stack, mode: str | None) -> None:
    """The same, and a user of the other mode alone is none of this one."""
    with pytest.raises(CommandRefused, match="ever connected"):
        await _revoke(stack, user="adaa", mode=mode)
    if mode == "test":
        with pytest.raises(CommandRefused, match="in test mode"):
            await _revoke(stack, user="ada", mode=mode)
