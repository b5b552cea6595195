"""Webhook endpoints: a secret shown once, stored sealed, replaced with an overlap; 410 disables the endpoint."""

import pytest

from gateway import keys
from tests.gateway.webhooks.conftest import Hooks


async def test_a_secret_is_shown_once_and_sealed_to_its_app(hooks: Hooks) -> None:
    """Another URL keeps it; what Redis holds shows nothing of it, and opens for no other app."""
    services, app_id = hooks.services, hooks.app_id
    assert await services.endpoints.set(app_id, "https://other.example/") is None
    endpoint = await services.endpoints.find(app_id)
    assert endpoint is not None
    assert (endpoint.url, endpoint.secrets) == ("https://other.example/", (hooks.receiver.secret,))
    stored = await services.store.call("HGETALL", keys.webhook(app_id))
    assert hooks.receiver.secret.removeprefix("whsec_").encode() not in b"".join(stored.values())
    await services.store.call("HSET", keys.webhook("appother"), *(word for pair in stored.items() for word in pair))
    copied = await services.endpoints.find("appother")
    assert copied is not None
    assert copied.secrets == ()


async def test_a_replaced_secret_signs_until_its_end(hooks: Hooks) -> None:
    """Both secrets sign during the overlap; without one the old is deleted at once; of three the oldest is deleted."""
    endpoints, app_id, first = hooks.services.endpoints, hooks.app_id, hooks.receiver.secret
    second = await endpoints.rotate(app_id, grace_seconds=60)
    found = await endpoints.find(app_id)
    assert found is not None
    assert found.secrets == (second, first)
    third = await endpoints.rotate(app_id, grace_seconds=0)
    found = await endpoints.find(app_id)
    assert found is not None
    assert found.secrets == (third,)
    with pytest.raises(KeyError):
        await endpoints.rotate("appnone", grace_seconds=0)


async def test_a_late_410_disables_no_endpoint_but_its_own(hooks: Hooks) -> None:
    """While the attempt ran, the URL was replaced or removed: the new one gets its events, and nothing is left."""
    endpoints, app_id = hooks.services.endpoints, hooks.app_id
    asked = await endpoints.find(app_id)
    assert asked is not None
    await endpoints.set(app_id, "https://other.example/")
    await endpoints.disable(asked)
    found = await endpoints.find(app_id)
    assert found is not None
    assert found.gone_ms is None
    await endpoints.remove(app_id)
    await endpoints.disable(found)
    assert await hooks.services.store.call("EXISTS", keys.webhook(app_id)) == 0


async def test_an_endpoint_that_is_taken_away_is_none(hooks: Hooks) -> None:
    """And a new one has a secret of its own."""
    endpoints, app_id = hooks.services.endpoints, hooks.app_id
    await endpoints.remove(app_id)
    assert await endpoints.find(app_id) is None
    assert await endpoints.set(app_id, "https://other.example/") not in (None, hooks.receiver.secret)


async def test_the_last_events_that_were_given_up_are_kept(hooks: Hooks) -> None:
    """The newest hundred."""
    for number in range(101):
        await hooks.services.endpoints.note_undelivered(hooks.app_id, {"webhookId": f"msg_{number}"})
    kept = await hooks.services.endpoints.undelivered(hooks.app_id)
    assert [kept[0], kept[-1], len(kept)] == [{"webhookId": "msg_100"}, {"webhookId": "msg_1"}, 100]
