"""The Lua scripts as Redis gets them."""

import hashlib

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.keys import Budget
from gateway.store import scripts

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def test_each_room_brings_its_scripts_with_their_includes() -> None:
    """Every script has a name of its own, its includes are filled in, and Redis would give it the name that we do."""
    found = scripts.load()
    assert {"beat", "connect", "admit", "settle"} <= found.keys()
    assert not [name for name, script in found.items() if "-- include:" in script.text]
    assert all(script.sha == hashlib.sha1(script.text.encode()).hexdigest() for script in found.values())


def test_constants_are_in_the_text_that_a_frequent_call_runs() -> None:
    """The call names the text with them, and brings that text for a Redis that does not know it."""
    script = scripts.load()["attach"]
    frequent = script.frequent(lambda budget, _: [budget.due], keys=1, more=0, constants="local LIMIT = 1\n")
    its = scripts.Script.of("local LIMIT = 1\n" + script.text)
    _, packed, load = frequent.call(Budget.of_user("live", "app1", "ada"), "r", ())
    assert (its.sha.encode() in packed, load) == (True, its.load)


@given(user=_TEXTS, words=st.tuples(_TEXTS, _TEXTS, _TEXTS))
@example(user="ada", words=("a" * 2000, "", "x"))
@example(user="ada\0", words=("gen-é", "\r\n", "\0"))
def test_a_frequent_call_is_packed_as_any_other(user: str, words: tuple[str, str, str]) -> None:
    """Whatever the budget's name and the words hold, also for a second budget with a name as long."""
    script = scripts.load()["attach"]
    frequent = script.frequent(lambda budget, name: [budget.due, budget.hold(name), name], keys=2, more=2)
    name, *last = words
    for budget in (Budget.of_user("live", "app1", user), Budget.of_user("live", "app2", user)):
        assert frequent.call(budget, name, last) == script.call([budget.due, budget.hold(name)], words)
