"""Some twenty seconds of every fault at once: nothing is lost, nothing is kept, the ledger is the bill."""

from pathlib import Path

import pytest

from benchmarks.soak import soak

SEED = 2026
USUAL = ("200", "hung up", "killed", "froze", "revoked", "ledger settled", "used up", "files that name a payer")


@pytest.mark.timeout(200)
@pytest.mark.parametrize(("kind", "seconds", "unusual"), [("valkey", 20, "restarted"), ("cluster", 15, "moved")])
async def test_after_every_fault_at_once_the_ledger_is_the_bill(
    tmp_path: Path, kind: str, seconds: float, unusual: str
) -> None:
    """Only a request caught in the one window differs, and it is marked as estimated."""
    seen, wrong = await soak(seconds, tmp_path, SEED, kind)
    assert wrong == []
    assert seen["exit 0"] == 2
    # It was a soak, and no idle one.
    assert min(seen[what] for what in (*USUAL, unusual)) > 0
