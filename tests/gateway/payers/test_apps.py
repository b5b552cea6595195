"""Apps: secrets that prove them, and what a process may remember."""

import pytest

from gateway.errors import AuthError
from gateway.services import Services

pytestmark = pytest.mark.each_store


async def test_a_secret_proves_its_app_and_mode(services: Services) -> None:
    """Both keys work, the scheme is read in any case."""
    app = await services.apps.create("Example", ["https://a.example", "https://a.example"])
    live = await services.apps.authenticate(f"Bearer {app['secretKey']}")
    assert (live.app.app_id, live.mode, live.app.name) == (app["appId"], "live", "Example")
    assert live.app.origins == {"https://a.example"}
    test = await services.apps.authenticate(f"bearer  {app['testSecretKey']} ")
    assert test.mode == "test"


async def test_anything_else_proves_nothing(services: Services) -> None:
    """A changed mode, app or secret, a publishable key, another scheme."""
    app, other = await services.apps.create("A", []), await services.apps.create("B", [])
    secret = app["secretKey"]
    for value in (
        None,
        "",
        secret,
        f"Basic {secret}",
        f"Bearer {secret}x",
        f"Bearer {secret[:-1]}",
        f"Bearer {secret.upper()}",
        f"Bearer {secret.replace('live', 'test')}",
        f"Bearer {secret.replace(app['appId'], other['appId'])}",
        f"Bearer {app['publishableKey']}",
        f"Bearer {app['publishableKey']}_",
        f"Bearer sk_live_{app['appId']}_",
        "Bearer sk_live_app\udcff_x",
    ):
        with pytest.raises(AuthError):
            await services.apps.authenticate(value)


async def test_only_digests_are_stored(services: Services) -> None:
    """A reader of Redis cannot make calls."""
    app = await services.apps.create("A", [])
    fields = await services.store.call("HGETALL", f"wf:app:{app['appId']}")
    secret = app["secretKey"].rsplit("_", 1)[1].encode()
    assert all(secret not in name + value for name, value in fields.items())


async def test_an_unknown_app_cannot_be_rotated_or_closed(services: Services) -> None:
    """KeyError, and no record is left."""
    with pytest.raises(KeyError):
        await services.apps.rotate("appnone", "live", grace_seconds=0)
    with pytest.raises(KeyError):
        await services.apps.close("appnone")
    assert await services.apps.find("appnone") is None
