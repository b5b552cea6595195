"""Makes every Redis key.

Rule: all keys of one script share one hash tag, their owner's, so a Redis Cluster keeps them in one slot. Keys that
span budgets have slots of their own, and the correctness of a balance never depends on them.
"""

import base64
import hashlib
import hmac
import secrets
from binascii import crc_hqx

from gateway.owners import Grant, Owner, User, parse_owner

INSTANCE = "wf:instance"
"""hash: epoch, salt, beat, accepted, older, since_ms: tells this Redis from an emptied or older one."""

APPS = "wf:apps"
"""set of app ids."""

GATEWAYS = "wf:gateways"
"""zset of gateway processes, score = ms until which each counts as alive."""

CUTS = "wf:cuts"
"""pub/sub channel: revocations and rotations, which every process must handle."""

ENDINGS = "wf:endings"
"""zset: name of a grant's budget, score = ms when it expires: the sweeper's list; no admission reads it."""

PRICES = "wf:prices"
"""hash: the last good copy of OpenRouter's model list (`raw`, `fetched_ms`)."""

OPEN_SHARDS = 16
# Each sender asks every shard once a second, also where nothing happens: a few are spread well enough for rare events.
EVENT_SHARDS = 4

SLOTS = 16384
"""The number of slots of a Redis Cluster."""

ACCOUNT_CHARS = 13
RANDOM_BYTES = 12
RANDOM_CHARS = 2 * RANDOM_BYTES  # in hexadecimal, which costs a tenth of base32


class Budget:
    """One owner's budget: the names of its keys, which share one hash tag.

    A name is made at each use: an installation of many users makes a budget for one request.
    """

    _account = (b"", "")

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.mode = owner.mode
        """`live` or `test`."""
        self.app_id = owner.app_id
        """The app that spends."""
        self.name = f"wf:{owner.mode}:{{{owner.tag}}}"
        """The budget's name, which `parse` reads back; also the prefix of its keys."""
        self.slot = key_slot(self.name)
        """The slot of all its keys in a Cluster."""
        self.place = f"{owner.kind}:{self.name}"
        """The associated data for sealing this budget's funding key."""
        self._digit = hashlib.sha256(self.name.encode()).digest()[0]
        self.open_shard = _OPEN_SHARDS[self._digit % OPEN_SHARDS]
        """zset: the shard of the list of budgets with open holds that this one belongs to."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Budget) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    @classmethod
    def of_user(cls, mode: str, app_id: str, user_id: str) -> "Budget":
        """Return the budget of an app's user."""
        return cls(User(mode, app_id, user_id))

    @classmethod
    def of_grant(cls, mode: str, app_id: str, digest: str) -> "Budget":
        """Return the budget of the grant whose token has the SHA-256 `digest`."""
        return cls(Grant(mode, app_id, digest))

    @classmethod
    def parse(cls, name: str) -> "Budget":
        """Return the budget with that name. Raises ValueError."""
        prefix, mode, tag = name.split(":", 2)
        if prefix != "wf" or mode not in ("live", "test"):
            raise ValueError("not a budget's name")
        return cls(parse_owner(mode, tag.removeprefix("{").removesuffix("}")))

    @property
    def budget(self) -> str:
        """hash: state, cap_nano, held_nano, window_day, window_nano, funding, …"""
        return f"{self.name}:budget"

    @property
    def days(self) -> str:
        """hash: UTC day number → nano-USD."""
        return f"{self.name}:days"

    @property
    def due(self) -> str:
        """zset: hold id, score = ms when it is overdue."""
        return f"{self.name}:due"

    @property
    def ledger(self) -> str:
        """stream: every settlement, append only."""
        return f"{self.name}:ledger"

    @property
    def history(self) -> str:
        """stream: consent receipts and changes, append only."""
        return f"{self.name}:history"

    @property
    def events(self) -> str:
        """stream: events for the app's webhooks, append only; the newest thousand are kept."""
        return f"{self.name}:events"

    @property
    def delivery(self) -> str:
        """hash: delivery of the events: done (the last entry), tries, next_ms; from, during a replay."""
        return f"{self.name}:delivery"

    @property
    def queue(self) -> str:
        """zset: requests that wait for money of this budget, in order of arrival."""
        return f"{self.name}:queue"

    @property
    def alive(self) -> str:
        """hash: wake channel of a process → ms until which its waiters count."""
        return f"{self.name}:alive"

    def hold(self, request_id: str) -> str:
        """hash: one request's hold, and after settlement its outcome."""
        return f"{self.name}:hold:{request_id}"

    @property
    def event_shard(self) -> str:
        """zset: the shard that lists this budget when it may have undelivered events."""
        return event_shard(self._digit % EVENT_SHARDS)

    def account(self, salt: bytes) -> str:
        """Return the budget's short name for request ids and logs: a keyed hash, not reversible without `salt`."""
        known, account = self._account
        if known != salt:
            account = _short(hmac.digest(salt, self.name.encode(), "sha256"))
            self._account = salt, account
        return account


def key_slot(key: str) -> int:
    """Return the slot of a key: the CRC-16 (XMODEM) of its hash tag, of the whole key without one.

    Source: the Redis Cluster specification, "Key distribution model".
    """
    name = key.encode()
    opened = name.find(b"{")
    closed = name.find(b"}", opened + 1)
    if opened >= 0 and closed > opened + 1:
        name = name[opened + 1 : closed]
    return crc_hqx(name, 0) % SLOTS


def open_shard(number: int) -> str:
    """zset: budget name, score = ms when the sweeper should look at it."""
    return f"wf:open:{number}"


_OPEN_SHARDS = tuple(map(open_shard, range(OPEN_SHARDS)))


def event_shard(number: int) -> str:
    """zset: budget name, score = ms when a sender should look for undelivered events."""
    return f"wf:events:{number}"


def webhook(app_id: str) -> str:
    """hash: an app's webhook endpoint: url, secret, old_secret, old_ends_ms, since_ms, gone_ms."""
    return f"wf:webhook:{app_id}"


def undelivered(app_id: str) -> str:
    """list: the last events whose delivery was given up, newest first, as JSON."""
    return f"wf:undelivered:{app_id}"


def webhook_place(app_id: str) -> str:
    """Where the secrets of an app's webhooks belong."""
    return f"webhook:{app_id}"


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
    """string: name of the budget with this short name."""
    return f"wf:account:{account}"


def wakes(process: str) -> str:
    """pub/sub channel: which waiting requests of one process should retry their admission."""
    return f"wf:wakes:{process}"


def acknowledgements(nonce: str) -> str:
    """set: the processes that have acted on one cut."""
    return f"wf:ack:{nonce}"


def attempt(attempt_id: str) -> str:
    """hash: one popup's attempt: browser, asked, state, decision, created_ms, expires_ms, extensions."""
    return f"wf:attempt:{attempt_id}"


def attempt_id(mode: str, app_id: str, user_id: str, nonce: str) -> str:
    """Return the id of an attempt, which only a token of the same app and user can derive from the nonce."""
    return hashlib.sha256(f"{mode}\0{app_id}\0{user_id}\0{nonce}".encode()).hexdigest()


def spent_token(app_id: str, jti: str) -> str:
    """string: id of the attempt that a session token was spent on."""
    return f"wf:jti:{hashlib.sha256(f'{app_id}:{jti}'.encode()).hexdigest()}"


def consent_rate(what: str, whose: str) -> str:
    """zset: recent calls of the kind `what` on the consent site, counted for `whose`."""
    return f"wf:rate:{what}:{hashlib.sha256(whose.encode()).hexdigest()}"


def cooldown(app_id: str, browser: str) -> str:
    """string: exists while this app must not open attempts in this browser."""
    return f"wf:cooldown:{app_id}:{browser}"


def wallet(wallet_id: str) -> str:
    """hash: created_ms; if funded: funding, last4, source, key_sha256; account (digest), merged (into which wallet)."""
    return f"wf:wallet:{{{wallet_id}}}"


def wallet_budgets(wallet_id: str) -> str:
    """hash: budget name → id of the login that approved it, prefixed with `!` after that login was cut off."""
    return f"wf:wallet:{{{wallet_id}}}:budgets"


def wallet_grants(wallet_id: str) -> str:
    """zset: names of the budgets of a wallet's grants, score = ms when each was listed."""
    return f"wf:wallet:{{{wallet_id}}}:grants"


def wallet_waiting(wallet_id: str) -> str:
    """hash: attempt id → budget name: redirect-mode approvals that the app may still redeem."""
    return f"wf:wallet:{{{wallet_id}}}:waiting"


def wallet_absorbed(wallet_id: str) -> str:
    """set: the wallets that were merged into this one."""
    return f"wf:wallet:{{{wallet_id}}}:absorbed"


def wallet_logins(wallet_id: str) -> str:
    """set: ids of this wallet's logins; ended ones may still be in it."""
    return f"wf:wallet:{{{wallet_id}}}:stays"


def wallet_place(wallet_id: str) -> str:
    """Return the associated data for sealing a wallet's funding key."""
    return f"wallet:{wallet_id}"


def login(wallet_id: str, device: str) -> str:
    """hash: one browser's login to a wallet: secret_sha256, label, since_ms, seen_ms, key_sha256."""
    return f"wf:wallet:{{{wallet_id}}}:stay:{device}"


def login_proof(wallet_id: str, device: str) -> str:
    """string: exists for ten minutes after the payer of this login proved to own the account."""
    return f"wf:wallet:{{{wallet_id}}}:proof:{device}"


def wallet_turn(wallet_id: str) -> str:
    """string: the lock of a wallet while a decision that raises possible spend is made without a fresh proof."""
    return f"wf:wallet:{{{wallet_id}}}:turn"


def login_challenge(wallet_id: str, device: str, purpose: str) -> str:
    """string: the open WebAuthn challenge of a login, in hexadecimal."""
    return f"wf:wallet:{{{wallet_id}}}:challenge:{purpose}:{device}"


def wallet_passkeys(wallet_id: str) -> str:
    """hash: credential id → a passkey as JSON."""
    return f"wf:wallet:{{{wallet_id}}}:passkeys"


def visit(token_sha256: str) -> str:
    """hash: a cookie's value: wallet, device (the login's id), before (digest of the value that it replaces)."""
    return f"wf:visit:{token_sha256}"


def identity(provider: str, digest: str) -> str:
    """string: the wallet of an account at `provider`, by keyed hash."""
    return f"wf:identity:{provider}:{digest}"


def authorization(state_sha256: str) -> str:
    """string, JSON: a pending authorization at OpenRouter: holder, verifier, attempt, issued (sealed)."""
    return f"wf:authorization:{state_sha256}"


def request_id(account: str, random: bytes) -> str:
    """Return `req_`, the budget's short name and random characters: the id leads to its budget without an index."""
    return f"req_{account}{random.hex()}"


def random_account() -> str:
    """Return a random short name that no budget has, for calls whose payer is not known."""
    return secrets.token_hex(ACCOUNT_CHARS)[:ACCOUNT_CHARS]


def account_of(request_id: str) -> str | None:
    """Return the budget's short name in a request id, or None if it is no request id."""
    body = request_id.removeprefix("req_")
    if body == request_id or len(body) != ACCOUNT_CHARS + RANDOM_CHARS or not body.isalnum() or not body.isascii():
        return None
    return body[:ACCOUNT_CHARS]


def _short(digest: bytes) -> str:
    """Return the first characters of a digest in base32, of which ten bytes make sixteen."""
    return base64.b32encode(digest[:10]).decode().lower()[:ACCOUNT_CHARS]
