"""An event as it is sent to its app: id, body, and the headers of the Standard Webhooks specification.

Rule: id and body depend only on what the event's script wrote, so every attempt and every replay sends the same.
Neither contains a key, a prompt, or anything about the payer but the app's own user id.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import orjson
from standardwebhooks import Webhook

from gateway.keys import Budget
from gateway.ledger.events import Event
from gateway.money import usd_from_nano
from gateway.owners import Grant

Fields = dict[str, str]
TYPES: Final = (
    "connection.created",
    "connection.updated",
    "connection.revoked",
    "budget.threshold",
    "funding.invalid",
    "grant.ended",
)
TRIAL_TYPE: Final = "webhook.test"


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent. `message_id`: unique to the event, the same in each attempt and replay."""

    message_id: str
    event: str
    body: bytes

    def headers(self, secrets: Sequence[str]) -> dict[str, str]:
        """Return the headers of one attempt, signed now with each secret."""
        now = datetime.fromtimestamp(time.time_ns() // 1_000_000_000, UTC)
        said = self.body.decode()
        signatures = [Webhook(secret).sign(self.message_id, now, said) for secret in secrets]
        return {
            "Content-Type": "application/json",
            "User-Agent": "Wattfare-Webhooks/1",
            "webhook-id": self.message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signatures),
        }


def message_of(budget: Budget, account: str, event: Event) -> Message:
    """Return the message of an event. `account`: the budget's short name."""
    fields = event.fields
    kind = fields["event"]
    owner = budget.owner
    whose: dict[str, object] = {"grant": owner.digest} if isinstance(owner, Grant) else {"appUserId": owner.user_id}
    data = {**whose, "mode": budget.mode, **_facts(kind, fields, is_grant=isinstance(owner, Grant))}
    return _message(message_id_of(account, event.entry_id), kind, event.at_ms, data)


def trial_message(app_id: str, now_ms: int) -> Message:
    """Return a message that only tests whether webhooks arrive."""
    return _message(f"msg_test_{now_ms}", TRIAL_TYPE, now_ms, {"appId": app_id})


def message_id_of(account: str, entry_id: str) -> str:
    """Return the id of an event: its budget's short name and its entry in the budget's stream."""
    return f"msg_{account}_{entry_id}"


def place_of(message_id: str) -> tuple[str, str] | None:
    """Return the budget's short name and the entry that an id names; None if it is no id of an event."""
    prefix, _, rest = message_id.partition("_")
    account, _, entry_id = rest.partition("_")
    ms, _, number = entry_id.partition("-")
    is_one = prefix == "msg" and account.isalnum() and ms.isdecimal() and number.isdecimal() and entry_id.isascii()
    return (account, entry_id) if is_one else None


def _message(message_id: str, kind: str, at_ms: int, data: dict[str, object]) -> Message:
    timestamp = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Message(message_id, kind, orjson.dumps({"type": kind, "timestamp": timestamp, "data": data}))


def _facts(kind: str, fields: Fields, *, is_grant: bool) -> dict[str, object]:
    """Return the data of an event beside its owner and mode."""
    match kind:
        case "connection.created":
            return {"limits": _limits(fields), "by": fields["by"]}
        case "connection.updated":
            is_paused = fields["state"] == "paused"
            said = {"limits": _limits(fields), "paused": is_paused}
            return {"change": fields["change"], **said, "by": fields["by"]}
        case "connection.revoked":
            return {"by": fields["by"]}
        case "budget.threshold":
            cap, spent = int(fields["cap_nano"]), int(fields["spent_nano"])
            left = {"remainingUsd": usd_from_nano(max(0, cap - spent))}
            if is_grant:
                money: dict[str, object] = {"maxUsd": usd_from_nano(cap), "spentUsd": usd_from_nano(spent)}
            else:
                money = {"limits": _limits(fields), "usage": {"monthlyUsd": usd_from_nano(spent)}}
            return {"percent": int(fields["percent"]), **money, **left}
        case "grant.ended":
            return {
                "reason": fields["reason"],
                "requests": int(fields["uses"]),
                "requestsUsed": int(fields["used"]),
                "maxUsd": usd_from_nano(int(fields["cap_nano"])) if fields["cap_nano"] else None,
                "spentUsd": usd_from_nano(int(fields["spent_nano"])),
            }
        case _:
            return {}


def _limits(fields: Fields) -> dict[str, object]:
    cap = fields["cap_nano"]
    return {"monthlyUsd": usd_from_nano(int(cap)) if cap else None}
