"""The sender: what happened reaches its app, in order, at least once, with one id; no app waits for another's."""

import pytest

from gateway.keys import Budget, webhook
from gateway.owners import Grant
from gateway.payers.connections import Approval, By
from gateway.webhooks.sender import backoff_seconds
from tests.fakes import FakeOpenRouter, refuses
from tests.gateway.stack import USER, open_stack, settings_for
from tests.gateway.webhooks.conftest import Hooks
from tests.gateway.webhooks.receiver import Receiver


async def test_a_gateway_tells_what_happens(redis_url: str, openrouter: FakeOpenRouter, receiver: Receiver) -> None:
    """From the payer's yes to the end, over the app's server, checked by the specification's own library."""
    settings = settings_for(redis_url, openrouter.url, WATTFARE_WEBHOOK_LOOPBACK="on")
    async with open_stack(settings) as stack:
        receiver.secret = await stack.gateway.services.endpoints.set(stack.app["appId"], receiver.url) or ""
        await stack.connect("0.0029")
        assert (await stack.chat()).status == 200
        openrouter.play = refuses(401, {"code": 401, "message": "User not found."})
        assert (await stack.chat()).refusal == (402, "funding_invalid")
        await stack.quiet()
        token = await stack.grant(1)
        assert (await stack.chat(headers=stack.as_grant(token))).status == 402
        await stack.gateway.services.connections.revoke(stack.granted(token), by=By.PAYER)
        await stack.gateway.services.connections.revoke(stack.budget(), by=By.PAYER)
        documents = [each.document for each in await receiver.until(6)]
    grant, ada = stack.granted(token).owner, {"appUserId": USER, "mode": "live"}
    assert isinstance(grant, Grant)
    of_grant = [each for each in documents if each["data"].get("grant") == grant.digest]
    assert [each["type"] for each in of_grant] == ["funding.invalid", "grant.ended"]
    assert [(each["type"], each["data"]) for each in documents if each not in of_grant] == [
        ("connection.created", {**ada, "limits": {"monthlyUsd": 0.0029}, "by": "operator"}),
        (
            "budget.threshold",
            {
                **ada,
                "percent": 50,
                "limits": {"monthlyUsd": 0.0029},
                "usage": {"monthlyUsd": 0.0015},
                "remainingUsd": 0.0014,
            },
        ),
        ("funding.invalid", ada),
        ("connection.revoked", {**ada, "by": "payer"}),
    ]


async def test_what_is_refused_comes_again_in_order_with_one_id(hooks: Hooks) -> None:
    """An app that was down gets each event once it accepts them again, the oldest first."""
    hooks.receiver.statuses = [500, 503, 302]
    ada = await hooks.connect("ada")
    await hooks.services.connections.pause(ada)
    for _ in range(3):
        await hooks.deliver(ada)
        await hooks.deliver(ada)  # Until the wait is over nothing is tried.
        await hooks.skip_backoff(ada)
    assert [each.status for each in hooks.receiver.received] == [500, 503, 302]
    await hooks.deliver(ada)
    assert [each.said[0] for each in hooks.receiver.taken] == ["connection.created", "connection.updated"]
    first = hooks.receiver.received[:4]
    assert len({(each.message_id, each.body) for each in first}) == 1
    assert len({each.message_id for each in hooks.receiver.taken}) == 2


async def test_a_server_that_hangs_holds_up_no_other_app(hooks: Hooks) -> None:
    """One app's hanging deliveries fill its four slots; another app's event is delivered."""
    async with Receiver().running() as other:
        app = await hooks.services.apps.create("Other", ["https://other.example"])
        other.secret = await hooks.services.endpoints.set(app["appId"], other.url) or ""
        hooks.receiver.gate.clear()
        for number in range(40):
            hooks.sender.notice(await hooks.connect(f"user-{number}"))
        await hooks.receiver.until(4)
        budget = Budget.of_user("live", app["appId"], "bob")
        await hooks.services.connections.approve(budget, Approval(1000, "sk-or-v1-bob"))
        hooks.sender.notice(budget)
        await other.until(1)
        assert len(hooks.receiver.received) == 4
        hooks.receiver.gate.set()
        await hooks.sender.idle()
    # Four, and the thirty-two that waited; the others are left for the next sender.
    assert len(hooks.receiver.received) == 36


async def test_an_app_whose_attempts_all_fail_pauses(hooks: Hooks) -> None:
    """After five failures in a row it pauses; one user's event that is refused delays no other's."""
    budgets = [await hooks.connect(f"user-{number}") for number in range(8)]
    hooks.receiver.statuses = [400, 204]
    await hooks.deliver(budgets[0])
    await hooks.deliver(budgets[1])
    assert [each.status for each in hooks.receiver.received] == [400, 204]
    hooks.receiver.statuses = [500] * 8
    for budget in budgets[2:]:
        await hooks.deliver(budget)
    assert len(hooks.receiver.received) == 2 + 5
    # Afterwards one attempt at a time finds out whether it is back.
    hooks.receiver.statuses = []
    hooks.receiver.gate.clear()
    hooks.passed_seconds = 6
    await hooks.skip_backoff(*budgets)
    hooks.sender.notice(budgets[0])
    await hooks.receiver.until(2 + 5 + 1)
    for budget in budgets[1:]:
        hooks.sender.notice(budget)
    await hooks.sender.idle(*budgets[1:])
    assert len(hooks.receiver.received) == 2 + 5 + 1
    hooks.receiver.gate.set()
    await hooks.sender.idle()
    await hooks.skip_backoff(*budgets)
    await hooks.deliver(*budgets)
    assert len(hooks.receiver.taken) == len(budgets)


async def test_a_server_that_asks_for_time_gets_it(hooks: Hooks) -> None:
    """Retry-After holds for the event, and for what else the app is sent."""
    ada, bob = await hooks.connect("ada"), await hooks.connect("bob")
    hooks.receiver.statuses, hooks.receiver.headers = [429], {"Retry-After": "90"}
    await hooks.deliver(ada)
    await hooks.deliver(bob)
    assert len(hooks.receiver.received) == 1
    found = await hooks.services.ledger.events.peek(ada, since_ms=0)
    assert found is not None
    assert 80_000 < found[1] <= 99_000


async def test_410_switches_an_endpoint_off(hooks: Hooks) -> None:
    """Nothing more is sent; an endpoint set anew gets later events only."""
    ada = await hooks.connect("ada")
    hooks.receiver.statuses = [410]
    await hooks.deliver(ada)
    await hooks.deliver(ada)
    assert len(hooks.receiver.received) == 1
    endpoint = await hooks.services.endpoints.find(hooks.app_id)
    assert endpoint is not None
    assert endpoint.gone_ms is not None
    await hooks.services.endpoints.set(hooks.app_id, hooks.receiver.url)
    await hooks.services.connections.pause(ada)
    await hooks.deliver(ada)
    assert [each.said[0] for each in hooks.receiver.taken] == ["connection.updated"]


async def test_what_nobody_takes_for_three_days_is_given_up(hooks: Hooks) -> None:
    """The next event is then delivered; the operator sees the undelivered one and may replay it."""
    await hooks.services.store.call("HSET", webhook(hooks.app_id), "since_ms", 0)
    ada = hooks.budget()
    await hooks.services.store.call("XADD", ada.events, "1000-0", "event", "connection.revoked", "by", "app")
    await hooks.connect("ada")
    hooks.receiver.statuses = [500, 500]
    await hooks.deliver(ada)
    await hooks.skip_backoff(ada)
    await hooks.deliver(ada)
    assert [each.said[0] for each in hooks.receiver.taken] == ["connection.created"]
    [undelivered] = await hooks.services.endpoints.undelivered(hooks.app_id)
    assert undelivered["webhookId"] == hooks.receiver.received[0].message_id
    assert await hooks.services.ledger.events.replay(ada, "1000-0")
    await hooks.deliver(ada)
    assert [each.said[0] for each in hooks.receiver.taken][1:] == ["connection.revoked", "connection.created"]


async def test_an_app_without_an_endpoint_costs_two_looks(hooks: Hooks) -> None:
    """The first pass drops its events, the second unlists the budget; only events after an endpoint is set are kept."""
    await hooks.services.endpoints.remove(hooks.app_id)
    store, ada = hooks.services.store, await hooks.connect("ada")
    assert await store.call("EXISTS", ada.events) == 1
    await hooks.deliver(ada)
    assert await store.call("EXISTS", ada.events) == 0
    assert await store.call("ZSCORE", ada.event_shard, ada.name) is not None
    await store.call("ZADD", ada.event_shard, "0.5", ada.name)
    assert await hooks.services.ledger.events.take_due(_number(ada.event_shard), most=1, lease_ms=0) == [ada]
    await hooks.deliver(ada)
    assert await store.call("ZSCORE", ada.event_shard, ada.name) is None
    hooks.receiver.secret = await hooks.services.endpoints.set(hooks.app_id, hooks.receiver.url) or ""
    await hooks.services.connections.pause(ada)
    await hooks.deliver(ada)
    assert [each.said[0] for each in hooks.receiver.received] == ["connection.updated"]


async def test_an_event_that_is_written_while_the_endpoint_is_set_is_delivered(hooks: Hooks) -> None:
    """The sender finds no endpoint, one is set and an event written, then the sender drops the earlier events only."""
    endpoints, app_id = hooks.services.endpoints, hooks.app_id
    await endpoints.remove(app_id)
    ada = await hooks.connect("ada")
    events = hooks.services.ledger.events
    newest = await events.newest(ada)
    assert newest is not None
    hooks.receiver.secret = await endpoints.set(app_id, hooks.receiver.url) or ""
    await hooks.services.connections.pause(ada)
    await events.drop(ada, newest)
    await hooks.deliver(ada)
    assert [each.said[0] for each in hooks.receiver.received] == ["connection.updated"]


async def test_a_sender_that_is_stopped_gives_back_what_it_tries(hooks: Hooks) -> None:
    """The next sender need not wait for the lease to end."""
    hooks.receiver.gate.clear()
    ada = await hooks.connect("ada")
    hooks.sender.notice(ada)
    await hooks.receiver.until(1)
    await hooks.sender.close()
    found = await hooks.services.ledger.events.peek(ada, since_ms=0)
    assert found is not None
    assert (found[0].tries, found[1]) == (0, 0)


async def test_no_line_of_the_log_tells_where_an_app_listens(hooks: Hooks, capsys: pytest.CaptureFixture[str]) -> None:
    """A URL may hold a secret; a line has the event's id, its type and what failed."""
    hooks.receiver.statuses = [500]
    ada = await hooks.connect("ada")
    await hooks.deliver(ada)
    await hooks.skip_backoff(ada)
    await hooks.deliver(ada)
    said = capsys.readouterr().out
    assert "webhook_failed" in said
    assert "webhook_delivered" in said
    assert hooks.receiver.received[0].message_id in said
    assert "hooks?app" not in said
    assert str(hooks.receiver.port) not in said


def _number(shard: str) -> int:
    return int(shard.rpartition(":")[2])


def test_the_waits_grow_to_hours() -> None:
    """Seconds at first, for a server that starts anew; then what a night or a weekend needs."""
    assert [backoff_seconds(tries) for tries in (0, 1, 2, 3, 4, 5, 50)] == [5, 30, 120, 600, 3600, 21_600, 21_600]
