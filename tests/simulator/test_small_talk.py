"""The sandbox's answers in the demo."""

import pytest

from simulator.small_talk import reply

DEMO = "You are the assistant of the Wattfare demo. Answer in a few sentences."


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("What does this cost?", "booked"),
        ("How do I stop it?", "stop everything"),
        ("Is my key safe?", "never sees your OpenRouter key"),
        ("Hello there", "stand-in"),
        ("Why is the sky blue?", "“Why is the sky blue?”"),
        ("x" * 200, "x…”"),
    ],
)
def test_a_question_in_the_demo_gets_an_answer(question: str, said: str) -> None:
    """The answer has some sentences and refers to the question."""
    found = reply(DEMO, question)
    assert found is not None
    assert said in found


def test_nothing_else_is_answered_so() -> None:
    """Other instructions, or none, leave the echo alone."""
    assert reply("You are helpful.", "What does this cost?") is None
