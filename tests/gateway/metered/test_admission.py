"""How a request comes by its hold: at its bound, on its terms, after its wait; and what it is told when it does not."""

import asyncio

import pytest

from tests.fakes import COST_NANO
from tests.gateway.stack import PATIENCE_SECONDS, Stack, question

pytestmark = pytest.mark.each_store
CALLERS = 8


async def test_eight_at_once_are_all_answered(patient: Stack) -> None:
    """On a cap that carries two of their bounds: in turns, none refused, the cap never exceeded; for twenty payers."""
    for number in range(20):
        user = f"user-{number}"
        await patient.connect("0.08", user=user)
        calls = [patient.chat(question(max_tokens=16_000), headers=patient.as_user(user)) for _ in range(CALLERS)]
        async with asyncio.timeout(PATIENCE_SECONDS):
            answers = await asyncio.gather(*calls)
        assert [answer.status for answer in answers] == [200] * CALLERS
        assert all("x-wattfare-max-tokens" not in answer.headers for answer in answers)
        standing = await patient.standing(user)
        assert (standing.held_nano, standing.spent_nano) == (0, CALLERS * COST_NANO)
