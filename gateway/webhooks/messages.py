"""One event as its app gets it: an id, a body, and headers by the Standard Webhooks specification.

Rule: id and body are made of what the event's script wrote, and of nothing that may change: every try and every replay
of an event sends the same. Neither holds a key, a prompt, or who the payer is beyond the app's own name for them.
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
    """What is sent: `message_id` is the same for each try and replay, and no other event's."""

    message_id: str
    event: str
    body: bytes

    def headers(self, secrets: Sequence[str]) -> dict[str, str]:
        """Return the headers of one try, signed with each secret, as of now."""
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
    """Return what an app is sent of one of its budgets' events. `account`: the budget's short name."""
    fields = event.fields
    kind = fields["event"]
    owner = budget.owner
    whose: dict[str, object] = {"grant": owner.digest} if isinstance(owner, Grant) else {"appUserId": owner.user_id}
    data = {**whose, "mode": budget.mode, **_facts(kind, fields, is_grant=isinstance(owner, Grant))}
    return _message(message_id_of(account, event.entry_id), kind, event.at_ms, data)


def trial_message(app_id: str, now_ms: int) -> Message:
    """Return a message by which an app's developer sees that webhooks arrive."""
    return _message(f"msg_test_{now_ms}", TRIAL_TYPE, now_ms, {"appId": app_id})


def message_id_of(account: str, entry_id: str) -> str:
    """Return an event's id: its budget's short name, and its place in the budget's stream."""
    return f"msg_{account}_{entry_id}"


def place_of(message_id: str) -> tuple[str, str] | None:
    """Return the budget's short name and the entry that an id stands for; None for what is no id."""
    prefix, _, rest = message_id.partition("_")
    account, _, entry_id = rest.partition("_")
    ms, _, number = entry_id.partition("-")
    is_one = prefix == "msg" and account.isalnum() and ms.isdecimal() and number.isdecimal() and entry_id.isascii()
    return (account, entry_id) if is_one else None


def _message(message_id: str, kind: str, at_ms: int, data: dict[str, object]) -> Message:
    timestamp = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Message(message_id, kind, orjson.dumps({"type": kind, "timestamp": timestamp, "data": data}))


def _facts(kind: str, fields: Fields, *, is_grant: bool) -> dict[str, object]:
    """Return what an event says beside whose it is."""
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
