"""One reading of a budget, whole however long its ledger is."""

import pytest

from gateway.keys import Budget
from gateway.ledger.audit import read_audit
from gateway.ledger.outcomes import Settlement
from gateway.payers.connections import Approval
from gateway.services import open_services
from tests.gateway.stack import settings_for

BUDGET = Budget.of_user("live", "app2222222222222222", "a:b}{c/ü")


@pytest.mark.each_store
async def test_a_ledger_of_several_readings_is_read_whole(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every entry is returned once and in order, each request with the fields of its hold."""
    monkeypatch.setattr("gateway.ledger.audit._ENTRIES_AT_ONCE", 3)
    async with open_services(settings_for(redis_url, "http://127.0.0.1:1")) as services:
        await services.connections.approve(BUDGET, Approval(10**9, "sk-or-v1-ada"))
        for number in range(7):
            await services.ledger.settle(BUDGET, f"r{number}", Settlement("estimated", 10))
        await services.ledger.settle(BUDGET, "r0", Settlement("settled", 25))
        audit = await read_audit(services.store, BUDGET)
    assert [entry["request_id"] for entry in audit.entries] == [*(f"r{number}" for number in range(7)), "r0"]
    assert audit.records == {"r0": ("settled", 25), **{f"r{number}": ("estimated", 10) for number in range(1, 7)}}
    assert (audit.is_whole, audit.standing.spent_nano, audit.holds) == (True, 85, ())
