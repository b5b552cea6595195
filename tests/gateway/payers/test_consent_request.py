"""Consent requests: a connection and a grant each name their own budget and attempt."""

from gateway.keys import Budget
from gateway.payers.consent_request import ConsentRequest

APP = "app0123456789abcdef"


def test_a_grant_and_a_connection_of_one_nonce_are_two_attempts_and_two_budgets() -> None:
    """No user has an empty id, so no user's token finds what became of a grant."""
    connection = ConsentRequest("live", APP, "ada", "nonce", "https://a.example", 5)
    grant = ConsentRequest("live", APP, "", "nonce", "https://a.example", 5, requests=3, digest="d" * 64)
    assert (connection.is_grant, grant.is_grant) == (False, True)
    assert connection.attempt_id != grant.attempt_id
    assert connection.budget == Budget.of_user("live", APP, "ada")
    assert grant.budget == Budget.of_grant("live", APP, "d" * 64)
