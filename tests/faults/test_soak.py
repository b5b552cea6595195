"""A minute of every fault at once: nothing is lost, nothing is kept, the ledger is the bill."""

from pathlib import Path

import pytest

from benchmarks.soak import soak

SECONDS = 60
SEED = 2026


@pytest.mark.timeout(200)
async def test_after_a_minute_of_every_fault_at_once_the_ledger_is_the_bill(tmp_path: Path) -> None:
    """Only a request caught in the one window differs, and it is marked as estimated."""
    seen, wrong = await soak(SECONDS, tmp_path, SEED)
    assert wrong == []
    assert seen["exit 0"] == 2
    # It was a soak, and no idle minute.
    assert min(seen[what] for what in ("200", "hung up", "killed", "froze", "revoked", "ledger settled")) > 0
