"""Owners: a tag distinguishes each from every other, whatever user ids an app uses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.owners import Grant, User, parse_owner

_APP = "app0123456789abcdef"
_DIGEST = "ab" * 32
_USERS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=60)


@given(user_id=_USERS, mode=st.sampled_from(["live", "test"]))
def test_a_users_tag_leads_back_to_them(user_id: str, mode: str) -> None:
    """Whatever the id holds."""
    owner = User(mode, _APP, user_id)
    assert parse_owner(mode, owner.tag) == owner


def test_a_grants_tag_leads_back_to_it() -> None:
    """By the digest of its token."""
    owner = Grant("live", _APP, _DIGEST)
    assert parse_owner("live", owner.tag) == owner


@pytest.mark.parametrize("user_id", [f"grant:{_DIGEST}", f"grant%3A{_DIGEST}", _DIGEST])
def test_no_user_is_taken_for_a_grant(user_id: str) -> None:
    """An app that calls its user as a grant is named gets neither its keys nor the place of its funding key."""
    user, grant = User("live", _APP, user_id), Grant("live", _APP, _DIGEST)
    assert user.tag != grant.tag
    assert user.kind != grant.kind
