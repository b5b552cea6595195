"""Real prompts can use up a cap, counted with the gateway's own tokenizer."""

import pytest

pytest.importorskip("bpe_openai", reason="its wheel carries the vocabularies; there is none for this machine")

from benchmarks.hold_size import CAP_NANO, SMALL_NANO, rows, table
from benchmarks.token_margins import counted_here


async def test_real_prompts_use_up_a_cap_of_five_dollars() -> None:
    """Real cost, expected and bound lie in this order; what is left at the end is less than one expected amount."""
    found = await rows(counted_here)

    for row in found:
        assert row.real_nano <= row.expected.total_nano <= row.bound.total_nano
        if row.real_nano < SMALL_NANO:
            assert row.usable >= 1 - row.expected.total_nano / CAP_NANO
            assert row.usable >= row.usable_by_bound
    # These count by that tokenizer itself.
    assert all(row.times < 1.2 for row in found if row.prompt.is_usual and row.model == "openai/gpt-5")
    assert len(table(found).splitlines()) == len(found) + 2
