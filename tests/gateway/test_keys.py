"""Redis keys: one slot for a connection, one name for a user, and ids that find their budget."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from redis.crc import key_slot

from gateway import keys
from gateway.keys import Budget

_USERS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=60)


@given(user=_USERS, mode=st.sampled_from(["live", "test"]))
def test_a_budgets_name_leads_back_to_it(user: str, mode: str) -> None:
    """Whatever the user id holds."""
    budget = Budget.of_user(mode, "app0123456789abcdef", user)
    assert Budget.parse(budget.name) == budget


@given(user=_USERS)
def test_everything_of_a_budget_lies_in_one_slot(user: str) -> None:
    """Braces and colons of a user id make no hash tag of their own, and nor does a grant."""
    grant = Budget.of_grant("live", "app0123456789abcdef", "a" * 64)
    assert key_slot(grant.budget.encode()) == key_slot(grant.hold("req_x").encode())
    budget = Budget.of_user("live", "app0123456789abcdef", user)
    names = [budget.budget, budget.days, budget.due, budget.ledger, budget.history, budget.hold("req_x")]
    assert {key_slot(name.encode()) for name in names} == {budget.slot}


@given(one=_USERS, other=_USERS)
def test_two_users_share_no_key(one: str, other: str) -> None:
    """Neither with each other nor between modes."""
    first, second = Budget.of_user("live", "appx", one), Budget.of_user("live", "appx", other)
    assert (first.budget == second.budget) == (one == other)
    assert Budget.of_user("test", "appx", one).budget != first.budget


def test_a_request_id_leads_to_its_account() -> None:
    """`req_` and 37 lower-case characters; the account is not the user and needs the salt."""
    budget = Budget.of_user("live", "app0123456789abcdef", "ada")
    account = budget.account(b"salt")
    request_id = keys.request_id(account, bytes(range(12)))
    assert len(request_id) == 4 + 37
    assert request_id == request_id.lower()
    assert keys.account_of(request_id) == account
    assert budget.account(b"other") != account
    assert len(keys.random_account()) == len(account)


@pytest.mark.parametrize(
    "text", ["", "req_", "req_x", "ada", "req_" + "a" * 36, "req_" + "é" * 37, "req_" + "a" * 36 + ":"]
)
def test_what_is_no_request_id_leads_nowhere(text: str) -> None:
    """Nothing of it reaches a key."""
    assert keys.account_of(text) is None


@pytest.mark.parametrize("name", ["", "x", "wf:live", "xx:live:{a:b}", "wf:prod:{a:b}"])
def test_what_is_no_budget_is_refused(name: str) -> None:
    """ValueError, no guess."""
    with pytest.raises(ValueError, match=r"."):
        Budget.parse(name)


def test_every_budget_has_a_shard_of_the_sweepers_list() -> None:
    """The same one each time, and all of them are used."""
    shards = {Budget.of_user("live", "appx", str(number)).open_shard for number in range(500)}
    assert shards == {keys.open_shard(number) for number in range(keys.OPEN_SHARDS)}


def test_an_attempt_is_named_by_its_whole_question() -> None:
    """Another user with the same nonce has another attempt."""
    assert keys.attempt_id("live", "a", "u", "n") != keys.attempt_id("live", "a", "v", "n")
    assert keys.attempt_id("live", "a", "u", "n") == keys.attempt_id("live", "a", "u", "n")


@given(st.text(st.sampled_from("ab{}é")))
@example("{}a")
@example("a{b}{c}")
@example("a{{b}}")
def test_a_keys_slot_is_the_one_that_redis_computes(key: str) -> None:
    """By its first hash tag that is not empty, else by the whole key."""
    assert keys.key_slot(key) == key_slot(key.encode())
