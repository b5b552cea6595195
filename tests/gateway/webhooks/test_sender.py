"""The sender: what happened reaches its app, in order, at least once, with one id; no app waits for another's."""

from gateway.payers.connections import By
from tests.fakes import FakeOpenRouter
from tests.gateway.stack import USER, open_stack, settings_for
from tests.gateway.webhooks.conftest import Hooks
from tests.gateway.webhooks.receiver import Receiver


async def test_a_gateway_tells_of_a_connection(redis_url: str, openrouter: FakeOpenRouter, receiver: Receiver) -> None:
    """From the payer's yes to the app's server, checked by the specification's own library."""
    settings = settings_for(redis_url, openrouter.url, WATTFARE_WEBHOOK_LOOPBACK="on")
    async with open_stack(settings) as stack:
        receiver.secret = await stack.gateway.services.endpoints.set(stack.app["appId"], receiver.url) or ""
        await stack.connect("5")
        await stack.gateway.services.connections.revoke(stack.budget(), by=By.PAYER)
        created, revoked = (each.document for each in await receiver.until(2))
    assert created["type"] == "connection.created"
    data = {"appUserId": USER, "mode": "live", "limits": {"monthlyUsd": 5}, "by": "operator"}
    assert created["data"] == data
    assert revoked["type"] == "connection.revoked"
    assert revoked["data"] == {"appUserId": USER, "mode": "live", "by": "payer"}


async def test_what_is_refused_comes_again_in_order_with_one_id(hooks: Hooks) -> None:
    """An app that is away for a while gets each event once it takes them, the oldest first."""
    hooks.receiver.statuses = [500, 503, 302]
    ada = await hooks.connect("ada")
    await hooks.services.connections.pause(ada)
    for _ in range(3):
        await hooks.tell(ada)
        await hooks.tell(ada)  # Until the wait is over nothing is tried.
        await hooks.pass_time(ada)
    assert [each.status for each in hooks.receiver.received] == [500, 503, 302]
    await hooks.tell(ada)
    assert [each.said[0] for each in hooks.receiver.taken] == ["connection.created", "connection.updated"]
    first = hooks.receiver.received[:4]
    assert len({(each.message_id, each.body) for each in first}) == 1
    assert len({each.message_id for each in hooks.receiver.taken}) == 2
