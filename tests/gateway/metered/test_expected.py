"""The expected amount: a real count with a margin, in the bound's form and never above it."""

from gateway.ledger.worst_case import WorstCase
from gateway.metered.body import ChatRequest
from gateway.metered.expected import expected_case
from tests.gateway.listed import SONNET, bound, chat, entry, prices


async def expected(request: ChatRequest, *entries: object) -> WorstCase:
    listed = prices(*entries)
    found = await expected_case(request, listed, bound(request, *entries), now_ms=0)
    assert found is not None
    return found


async def test_english_is_expected_at_less_than_half_its_bound() -> None:
    """A token of it has four bytes, and the bound takes each for a token."""
    request = chat("The quick brown fox jumps over the lazy dog. " * 500, model=str(SONNET["id"]), max_tokens=100)

    assert (await expected(request, SONNET)).fixed_nano < bound(request, SONNET).fixed_nano / 2


async def test_the_output_ceiling_costs_the_same() -> None:
    """Nobody knows how much of it is used."""
    request = chat("hello", max_tokens=100)
    found, most = await expected(request, entry()), bound(request, entry())

    assert (found.max_tokens, found.least_tokens, found.per_token_zepto) == (100, most.least_tokens, 2000 * 10**12)


async def test_what_nothing_bounds_has_no_expected_amount() -> None:
    """All that is left must be held for it."""
    assert await expected_case(chat(), prices(entry()), None, now_ms=0) is None
