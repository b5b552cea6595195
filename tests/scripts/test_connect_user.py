"""The operator's import of a connection."""

import argparse
import json
from dataclasses import replace

import pytest

from scripts.command import CommandRefused
from scripts.connect_user import connect_user
from tests.fakes import FakeOpenRouter
from tests.faults.world import open_sandbox
from tests.gateway.process import command, environment
from tests.gateway.stack import Stack

pytestmark = pytest.mark.each_store


async def test_an_imported_connection_pays_at_once(redis_url: str, stack: Stack, openrouter: FakeOpenRouter) -> None:
    """The answer is the ConnectionStatus, the key is used and not shown."""
    arguments = (
        "--app",
        stack.app["appId"],
        "--user",
        "é:x",
        "--monthly-usd",
        "2.5",
        "--openrouter-key",
        "sk-or-v1-imp",
    )
    code, out, errors = await command("scripts.connect_user", *arguments, "--json", variables=environment(redis_url))
    assert code == 0
    # OpenRouter is unreachable here: that is reported, but does not prevent an import.
    assert errors.startswith("connect_user: the key was not checked.")
    assert json.loads(out) == {
        "connected": True,
        "limits": {"monthlyUsd": 2.5},
        "usage": {"monthlyUsd": 0},
        "remainingUsd": 2.5,
    }
    assert (await stack.chat(headers=stack.as_user("%C3%A9:x"))).status == 200
    assert openrouter.last.header("Authorization") == "Bearer sk-or-v1-imp"
    [receipt] = await stack.gateway.services.connections.receipts(stack.budget("é:x"))
    assert (receipt["event"], receipt["by"], receipt["cap_nano"]) == ("approved", "operator", "2500000000")


async def test_amounts_are_printed_as_people_write_them(redis_url: str, stack: Stack) -> None:
    """A millionth of a dollar is 0.000001, not 1e-06."""
    arguments = (
        "--app",
        stack.app["appId"],
        "--user",
        "ada",
        "--monthly-usd",
        "0.000001",
        "--openrouter-key",
        "sk-or-v1",
    )
    code, out, _ = await command("scripts.connect_user", *arguments, variables=environment(redis_url))
    assert code == 0
    assert "limits: monthlyUsd: 0.000001\n" in out
    assert "remainingUsd: 0.000001\n" in out


def _given(stack: Stack, **changed: str | None) -> argparse.Namespace:
    given: dict[str, str | None] = {"app": stack.app["appId"], "user": "eve", "mode": "live"}
    given |= {"monthly_usd": "5", "openrouter_key": "sk-or-v1-imp", **changed}
    return argparse.Namespace(unchecked=False, **given)


async def test_a_key_that_openrouter_refuses_connects_nobody_unless_unchecked(stack: Stack) -> None:
    """A revoked key, and a management key, which pays for nothing; neither is repeated."""
    services = stack.gateway.services
    async with open_sandbox() as sandbox:
        asking = replace(services, settings=replace(services.settings, openrouter_base_url=sandbox.url))
        for key in ("sk-or-v1-revoked-1", "sk-or-v1-mgmt-1"):
            given = _given(stack, openrouter_key=key)
            with pytest.raises(CommandRefused, match="--unchecked") as refused:
                await connect_user(asking, given)
            assert key not in str(refused.value)
            assert not (await stack.standing("eve")).is_connected
        await connect_user(asking, _given(stack, openrouter_key="sk-or-v1-fine"))
        assert (await stack.standing("eve")).is_connected
        given = _given(stack, user="ivy", openrouter_key="sk-or-v1-revoked-1")
        given.unchecked = True
        await connect_user(asking, given)
    assert (await stack.standing("ivy")).is_connected


async def test_a_test_connection_needs_neither_cap_nor_key(stack: Stack) -> None:
    """Unlimited, and free of charge."""
    given = _given(stack, mode="test", monthly_usd=None, openrouter_key=None)
    answer = await connect_user(stack.gateway.services, given)
    assert answer["limits"] == {"monthlyUsd": None}
    assert (await stack.chat(headers=stack.as_user("eve", secret=stack.test_secret))).status == 200


@pytest.mark.parametrize(
    "changed",
    [
        {"monthly_usd": "0"},
        {"monthly_usd": "NaN"},
        {"monthly_usd": "1e309"},
        {"monthly_usd": "-1"},
        {"monthly_usd": None},
        {"user": ""},
        {"user": "a" * 257},
        {"user": "a\n"},
        {"openrouter_key": "sk-or-v1-two words"},
        {"openrouter_key": "sk-or-v1-é"},
        {"openrouter_key": None},
        {"app": "appnone"},
    ],
    ids=str,
)
async def test_a_bad_argument_connects_nobody(stack: Stack, changed: dict[str, str | None]) -> None:
    """The error is explained; the key is not repeated."""
    with pytest.raises(CommandRefused) as refused:
        await connect_user(stack.gateway.services, _given(stack, **changed))
    assert "imp" not in str(refused.value)
    assert "two words" not in str(refused.value)
    assert not (await stack.standing("eve")).is_connected
