"""The messages: the body of each event, an id that refers to it, and a body equal at every attempt."""

import json

import pytest
from standardwebhooks import Webhook

from gateway.keys import Budget
from gateway.ledger.events import Event
from gateway.webhooks.messages import TYPES, message_id_of, message_of, place_of, trial_message

APP = "app2222222222222222"
USER = Budget.of_user("live", APP, "a:b}{c/ü")
GRANT = Budget.of_grant("test", APP, "ab" * 32)
WHO = {"appUserId": "a:b}{c/ü", "mode": "live"}
WHICH = {"grant": "ab" * 32, "mode": "test"}
CASES: list[tuple[Budget, dict[str, str], dict[str, object]]] = [
    (
        USER,
        {"event": "connection.created", "cap_nano": "5000000000", "by": "payer"},
        {**WHO, "limits": {"monthlyUsd": 5}, "by": "payer"},
    ),
    (
        USER,
        {"event": "connection.updated", "change": "paused", "state": "paused", "cap_nano": "", "by": "payer"},
        {**WHO, "change": "paused", "limits": {"monthlyUsd": None}, "paused": True, "by": "payer"},
    ),
    (USER, {"event": "connection.revoked", "by": "app"}, {**WHO, "by": "app"}),
    (
        USER,
        {"event": "budget.threshold", "percent": "80", "cap_nano": "5000000000", "spent_nano": "4100000000"},
        {
            **WHO,
            "percent": 80,
            "limits": {"monthlyUsd": 5},
            "usage": {"monthlyUsd": 4.1},
            "remainingUsd": 0.9,
        },
    ),
    (
        GRANT,
        {"event": "budget.threshold", "percent": "100", "cap_nano": "500000000", "spent_nano": "600000000"},
        {**WHICH, "percent": 100, "maxUsd": 0.5, "spentUsd": 0.6, "remainingUsd": 0},
    ),
    (USER, {"event": "funding.invalid"}, {**WHO}),
    (
        GRANT,
        {"event": "grant.ended", "reason": "used_up", "uses": "3", "used": "3", "cap_nano": "1", "spent_nano": "0"},
        {**WHICH, "reason": "used_up", "requests": 3, "requestsUsed": 3, "maxUsd": 1e-9, "spentUsd": 0},
    ),
]


@pytest.mark.parametrize(("budget", "fields", "data"), CASES, ids=[fields["event"] for _, fields, _ in CASES])
def test_each_event_says_whose_it_is_and_what_happened(
    budget: Budget, fields: dict[str, str], data: dict[str, object]
) -> None:
    """Its type, its time, its facts, and nothing else; the same bytes at each try and replay."""
    message = message_of(budget, "a" * 13, Event("1795000000123-4", fields))
    document = json.loads(message.body)
    assert document == {"type": fields["event"], "timestamp": "2026-11-18T11:06:40.123Z", "data": data}
    again = message_of(budget, "a" * 13, Event("1795000000123-4", fields, tries=3, replayed_from="1-1"))
    assert (again.message_id, again.body) == (message.message_id, message.body)


def test_every_type_has_a_case() -> None:
    """Every event type has a test case."""
    assert {fields["event"] for _, fields, _ in CASES} == set(TYPES)


def test_an_id_leads_back_to_its_event() -> None:
    """What is no id of an event leads nowhere."""
    message_id = message_id_of("a" * 13, "1795000000123-4")
    assert place_of(message_id) == ("a" * 13, "1795000000123-4")
    for text in ("", "msg_test_1", "msg_a_1", "msg_a_1-", "req_a_1-1", "msg_a b_1-1", "msg_a_1-1-1", "msg_a_1-x"):
        assert place_of(text) is None


def test_headers_are_what_the_specifications_library_checks() -> None:
    """With two secrets there are two signatures, and either is enough."""
    secrets = ["whsec_" + "A" * 43 + "=", "whsec_" + "B" * 43 + "="]
    message = trial_message(APP, 1_795_000_000_000)
    headers = message.headers(secrets)
    assert headers["webhook-id"] == message.message_id
    for secret in secrets:
        assert Webhook(secret).verify(message.body, headers)["type"] == "webhook.test"
