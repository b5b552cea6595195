"""A sender killed with SIGKILL loses no event: its app gets each at least once, under one id, in order."""

from pathlib import Path

import pytest

from gateway import keys
from gateway.keys import Budget
from gateway.payers.connections import Approval, By
from tests.clusters import ValkeyCluster
from tests.faults.process_forker import ProcessForker
from tests.faults.world import open_world, variables
from tests.gateway.webhooks.receiver import Receiver
from tests.scripts.books import opened

TYPES = ["connection.created", "connection.updated", "connection.revoked"]


@pytest.mark.parametrize(("point", "times"), [("taken", [1, 1, 1]), ("sent", [2, 1, 1])])
async def test_a_killed_sender_tells_each_event_at_least_once(
    redis_url: str, tmp_path: Path, point: str, times: list[int]
) -> None:
    """Killed before its first try nothing came yet; killed before it noted it, the app gets the same once more."""
    async with Receiver().running() as receiver, ProcessForker(tmp_path) as forker:
        environment = variables(
            redis_url,
            "http://127.0.0.1:1",
            WATTFARE_SWEEPER="on",
            WATTFARE_WEBHOOK_LOOPBACK="on",
            WATTFARE_WEBHOOK_SECONDS="0.5",
        )
        async with open_world(environment) as world:
            receiver.secret = await world.services.endpoints.set(world.app["appId"], receiver.url) or ""
            await world.connect("ada")
            await world.services.connections.pause(world.budget("ada"))
            await world.services.connections.revoke(world.budget("ada"), by=By.PAYER)
            dying = await forker.start(environment, point=f"webhook {point}")
            assert await dying.ended() == -9
            await forker.start(environment)
            received = await receiver.until(sum(times))
    assert [each.said[0] for each in received] == [kind for kind, n in zip(TYPES, times, strict=True) for _ in range(n)]
    assert len({(each.message_id, each.body) for each in received}) == len(TYPES)


async def test_a_payer_revokes_while_the_list_of_events_is_away(tmp_path: Path) -> None:
    """Of a Cluster only the master that would list the budget for the senders is dead: the listing is kept for it."""
    with ValkeyCluster(replicas=False, options=("--cluster-require-full-coverage", "no")) as cluster:
        async with opened(cluster.url, tmp_path) as services:
            users = (Budget.of_user("live", "app2222222222222222", f"user-{number}") for number in range(100))
            needed = {cluster.owner(keys.GATEWAYS), cluster.owner(keys.CUTS)}
            budget = next(
                each for each in users if cluster.owner(each.event_shard) not in needed | {cluster.owner(each.budget)}
            )
            await services.connections.approve(budget, Approval(10**9, "sk-or-v1-ada"))
            cluster.nodes[cluster.owner(budget.event_shard)].kill()
            await services.connections.revoke(budget, by=By.PAYER)
            assert (await services.ledger.standing(budget)).state == "revoked"
            assert services.store.pending == 1
