"""Every Redis key there is, made here and nowhere else.

All that one script touches shares one hash tag, its owner's, so a Redis Cluster keeps it in one slot.
Whatever spans budgets lies in slots of its own and is never needed for the correctness of a balance.
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from functools import cached_property

from gateway.owners import Grant, Owner, User, parse_owner

INSTANCE = "wf:instance"
"""hash: epoch, salt, beat, accepted, older, since_ms. What tells this Redis from an empty or older one."""

APPS = "wf:apps"
"""set of app ids."""

GATEWAYS = "wf:gateways"
"""zset of gateway processes, score = ms of the last sign of life."""

CUTS = "wf:cuts"
"""pub/sub channel: revocations and rotations that every process must hear."""

ENDINGS = "wf:endings"
"""zset: name of a grant's budget, score = ms when it expires. What is to be dropped then; no admission asks it."""

PRICES = "wf:prices"
"""hash: the last good copy of OpenRouter's model list (`raw`, `fetched_ms`)."""

OPEN_SHARDS = 16

ACCOUNT_CHARS = 13
RANDOM_BYTES = 12
RANDOM_CHARS = 2 * RANDOM_BYTES  # in hexadecimal, which costs a tenth of base32


@dataclass(frozen=True)
class Budget:
    """What one owner may spend: the names of its keys, which share one hash tag. Each name is made once."""

    owner: Owner

    @classmethod
    def of_user(cls, mode: str, app_id: str, user_id: str) -> "Budget":
        """Return the budget of an app's user."""
        return cls(User(mode, app_id, user_id))

    @classmethod
    def of_grant(cls, mode: str, app_id: str, digest: str) -> "Budget":
        """Return the budget of the grant whose token has that SHA-256."""
        return cls(Grant(mode, app_id, digest))

    @cached_property
    def mode(self) -> str:
        """`live` or `test`."""
        return self.owner.mode

    @cached_property
    def app_id(self) -> str:
        """The app that spends."""
        return self.owner.app_id

    @cached_property
    def name(self) -> str:
        """The budget's own name, from which `parse` builds it again; also the prefix of its keys."""
        return f"wf:{self.mode}:{{{self.owner.tag}}}"

    @classmethod
    def parse(cls, name: str) -> "Budget":
        """Return the budget that `name` stands for. Raises ValueError."""
        prefix, mode, tag = name.split(":", 2)
        if prefix != "wf" or mode not in ("live", "test"):
            raise ValueError("not a budget's name")
        return cls(parse_owner(mode, tag.removeprefix("{").removesuffix("}")))

    @cached_property
    def budget(self) -> str:
        """hash: state, cap_nano, held_nano, window_day, window_nano, funding, …"""
        return f"{self.name}:budget"

    @cached_property
    def days(self) -> str:
        """hash: UTC day number → nano-USD."""
        return f"{self.name}:days"

    @cached_property
    def due(self) -> str:
        """zset: hold id, score = ms when it is overdue."""
        return f"{self.name}:due"

    @cached_property
    def ledger(self) -> str:
        """stream: every settlement, append only."""
        return f"{self.name}:ledger"

    @cached_property
    def history(self) -> str:
        """stream: consent receipts and changes, append only."""
        return f"{self.name}:history"

    @cached_property
    def queue(self) -> str:
        """zset: who waits for money of this budget, in the order of arrival."""
        return f"{self.name}:queue"

    @cached_property
    def alive(self) -> str:
        """hash: wake channel of a process → ms until which its waiters count."""
        return f"{self.name}:alive"

    def hold(self, request_id: str) -> str:
        """hash: one request's hold, and after settlement its outcome."""
        return f"{self.name}:hold:{request_id}"

    @cached_property
    def open_shard(self) -> str:
        """zset: the shard of the list of budgets with open holds that this one belongs to."""
        return open_shard(hashlib.sha256(self.name.encode()).digest()[0] % OPEN_SHARDS)

    @cached_property
    def place(self) -> str:
        """Where a sealed funding key of this budget belongs."""
        return f"{self.owner.kind}:{self.name}"

    def account(self, salt: bytes) -> str:
        """Return the short name that stands for this budget in request ids and logs: not reversible without `salt`."""
        if (known := self._accounts.get(salt)) is None:
            known = self._accounts[salt] = _base32(hmac.digest(salt, self.name.encode(), "sha256"), ACCOUNT_CHARS)
        return known

    @cached_property
    def _accounts(self) -> dict[bytes, str]:
        return {}


def open_shard(number: int) -> str:
    """zset: budget name, score = ms when the sweeper should look at it."""
    return f"wf:open:{number}"


def app(app_id: str) -> str:
    """hash: name, origins, return_urls, secrets, created_ms, closed_ms."""
    return f"wf:app:{app_id}"


def members(mode: str, app_id: str) -> str:
    """set: the names of an app's budgets."""
    return f"wf:members:{mode}:{app_id}"


def grants(mode: str, app_id: str) -> str:
    """zset: the names of an app's grants' budgets, score = ms when each expires."""
    return f"wf:grants:{mode}:{app_id}"


def session_rate(app_id: str) -> str:
    """zset: an app's session calls of the last minute."""
    return f"wf:rate:sessions:{app_id}"


def app_pace(mode: str, app_id: str, report: str) -> tuple[str, str]:
    """string, string: until when an app's calls so far would take, in ms; and that one process's report was counted."""
    pace = f"wf:pace:{{{mode}:{app_id}}}"
    return pace, f"{pace}:{report}"


def account(account: str) -> str:
    """string: the budget that a request id's account part stands for."""
    return f"wf:account:{account}"


def wakes(process: str) -> str:
    """pub/sub channel: which requests of one process that wait for money should ask again."""
    return f"wf:wakes:{process}"


def acknowledgements(nonce: str) -> str:
    """set: the processes that have acted on one cut."""
    return f"wf:ack:{nonce}"


def attempt(attempt_id: str) -> str:
    """hash: one popup's attempt: browser, asked, state, decision, created_ms, expires_ms, extensions."""
    return f"wf:attempt:{attempt_id}"


def attempt_id(mode: str, app_id: str, user_id: str, nonce: str) -> str:
    """Return the name of an attempt: found by its nonce under one app's user, and by nobody else's token."""
    return hashlib.sha256(f"{mode}\0{app_id}\0{user_id}\0{nonce}".encode()).hexdigest()


def spent_token(app_id: str, jti: str) -> str:
    """string: the attempt that a session token was spent on."""
    return f"wf:jti:{hashlib.sha256(f'{app_id}:{jti}'.encode()).hexdigest()}"


def consent_rate(what: str, whose: str) -> str:
    """zset: calls of one kind (`what`) that count against one name (`whose`) on the consent site."""
    return f"wf:rate:{what}:{hashlib.sha256(whose.encode()).hexdigest()}"


def cooldown(app_id: str, browser: str) -> str:
    """string: this app asked this browser too often; it may ask again when the key is gone."""
    return f"wf:cooldown:{app_id}:{browser}"


def wallet(wallet_id: str) -> str:
    """hash: created_ms; with funding funding, last4, source, key_sha256; account (digest), merged (another wallet)."""
    return f"wf:wallet:{{{wallet_id}}}"


def wallet_budgets(wallet_id: str) -> str:
    """hash: budget name → the stay that approved it; after `!`: one that was cut off, which left it its old key."""
    return f"wf:wallet:{{{wallet_id}}}:budgets"


def wallet_grants(wallet_id: str) -> str:
    """zset: names of the budgets of a wallet's grants, score = ms when each was listed."""
    return f"wf:wallet:{{{wallet_id}}}:grants"


def wallet_waiting(wallet_id: str) -> str:
    """hash: attempt id → budget name: approvals of redirect mode that the app may still redeem."""
    return f"wf:wallet:{{{wallet_id}}}:waiting"


def wallet_absorbed(wallet_id: str) -> str:
    """set: the wallets that were merged into this one."""
    return f"wf:wallet:{{{wallet_id}}}:absorbed"


def wallet_logins(wallet_id: str) -> str:
    """set: the names of the stays in this wallet; those that have ended may still be named."""
    return f"wf:wallet:{{{wallet_id}}}:stays"


def wallet_place(wallet_id: str) -> str:
    """Where a wallet's sealed funding key belongs."""
    return f"wallet:{wallet_id}"


def login(wallet_id: str, device: str) -> str:
    """hash: one browser's stay in a wallet: secret_sha256, label, since_ms, seen_ms, key_sha256."""
    return f"wf:wallet:{{{wallet_id}}}:stay:{device}"


def login_proof(wallet_id: str, device: str) -> str:
    """string: the payer behind this stay has just proved who they are."""
    return f"wf:wallet:{{{wallet_id}}}:proof:{device}"


def wallet_turn(wallet_id: str) -> str:
    """string: something that adds to what a wallet allows is being decided without a fresh proof."""
    return f"wf:wallet:{{{wallet_id}}}:turn"


def login_challenge(wallet_id: str, device: str, purpose: str) -> str:
    """string: the challenge that a stay's authenticator is to answer, in hexadecimal."""
    return f"wf:wallet:{{{wallet_id}}}:challenge:{purpose}:{device}"


def wallet_passkeys(wallet_id: str) -> str:
    """hash: credential id → a passkey as JSON."""
    return f"wf:wallet:{{{wallet_id}}}:passkeys"


def visit(token_sha256: str) -> str:
    """hash: a cookie's value: wallet, device (the stay it belongs to), before (the digest of the value it replaces)."""
    return f"wf:visit:{token_sha256}"


def identity(provider: str, digest: str) -> str:
    """string: the wallet of an account at `provider`, by keyed hash."""
    return f"wf:identity:{provider}:{digest}"


def authorization(state_sha256: str) -> str:
    """hash: an authorization at OpenRouter that is under way: holder, verifier, attempt, issued."""
    return f"wf:authorization:{state_sha256}"


def request_id(account: str, random: bytes) -> str:
    """Return `req_`, the payer's account name and random characters: an id that finds its budget without an index."""
    return f"req_{account}{random.hex()}"


def random_account() -> str:
    """Return an account name that no budget has: for calls whose payer is not known."""
    return secrets.token_hex(ACCOUNT_CHARS)[:ACCOUNT_CHARS]


def account_of(request_id: str) -> str | None:
    """Return the account part of a request id, or None when it is not one."""
    body = request_id.removeprefix("req_")
    if body == request_id or len(body) != ACCOUNT_CHARS + RANDOM_CHARS or not body.isalnum() or not body.isascii():
        return None
    return body[:ACCOUNT_CHARS]


def _base32(raw: bytes, length: int) -> str:
    return base64.b32encode(raw).decode().rstrip("=").lower()[:length]
