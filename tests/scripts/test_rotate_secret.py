"""A rotated secret: the new one works at once, the old one is refused at once on every gateway, or after its grace."""

import argparse
import json

import pytest

from scripts.command import CommandRefused
from scripts.rotate_secret import rotate_secret
from tests.fakes import FakeOpenRouter
from tests.gateway.process import command, environment
from tests.gateway.stack import Stack, open_stack, settings_for


async def _rotate(stack: Stack, *, app: str | None = None, mode: str = "live", grace: int = 0) -> str:
    given = argparse.Namespace(app=stack.app["appId"] if app is None else app, mode=mode, grace=grace)
    answer = await rotate_secret(stack.gateway.services, given)
    secret = answer["secretKey"]
    assert isinstance(secret, str)
    return secret


async def test_the_old_secret_is_refused_on_every_gateway_once_the_command_is_done(
    redis_url: str, stack: Stack, openrouter: FakeOpenRouter
) -> None:
    """Both gateways have just used the old secret, so both had it in mind."""
    async with open_stack(settings_for(redis_url, openrouter.url), app=stack.app) as second:
        for gateway in (stack, second):
            assert (await gateway.chat()).status == 200
        code, out, errors = await command(
            "scripts.rotate_secret", "--app", stack.app["appId"], "--json", variables=environment(redis_url)
        )
        assert (code, errors) == (0, "")
        new = json.loads(out)["secretKey"]
        for gateway in (second, stack):
            assert (await gateway.chat()).refusal == (401, "auth")
            assert (await gateway.chat(headers=gateway.as_user(secret=new))).status == 200
            test_key = gateway.as_user("nobody", secret=gateway.test_secret)
            assert (await gateway.chat(headers=test_key)).refusal == (402, "not_connected")


async def test_with_a_grace_both_work_until_it_is_over(stack: Stack) -> None:
    """The old one carries an end; when that is past it is refused."""
    app_id = stack.app["appId"]
    new = await _rotate(stack, grace=3600)
    assert (await stack.chat()).status == 200
    assert (await stack.chat(headers=stack.as_user(secret=new))).status == 200
    for name, end in (await stack.redis.hgetall(f"wf:app:{app_id}")).items():
        if str(name).find("secret:live:") >= 0 and end:
            await stack.redis.hset(f"wf:app:{app_id}", name, "1")
    stack.gateway.services.apps.forget(app_id)
    assert (await stack.chat()).refusal == (401, "auth")
    assert (await stack.chat(headers=stack.as_user(secret=new))).status == 200


async def test_a_rotation_without_grace_ends_an_earlier_grace(stack: Stack) -> None:
    """Only the newest key of that mode is left; the other mode's key is not touched."""
    between = await _rotate(stack, mode="test", grace=3600)
    newest = await _rotate(stack, mode="test")
    for secret in (stack.test_secret, between):
        assert (await stack.chat(headers=stack.as_user(secret=secret))).refusal == (401, "auth")
    assert (await stack.chat(headers=stack.as_user(secret=newest))).refusal == (402, "not_connected")
    assert (await stack.chat()).status == 200


@pytest.mark.parametrize(("app", "grace"), [("appnone", 0), ("", 0), ("{app}", -1), ("{app}", 10**9)])
async def test_an_unknown_app_or_an_odd_grace_is_refused(stack: Stack, app: str, grace: int) -> None:
    """Nothing is rotated."""
    with pytest.raises(CommandRefused):
        await _rotate(stack, app=app.format(app=stack.app["appId"]), grace=grace)
    assert (await stack.chat()).status == 200
