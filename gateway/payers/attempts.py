"""Attempts: one consent popup each, from the session token it spends to the payer's decision, bound to one browser.

Rule: the request is fixed at the start, the decision at the first one that was carried out; a repeat gets the first
result. An approval that was not carried out is released before another is accepted, so the stored decision is always
the one whose button was pressed.
Rule: an attempt is stored under its own app, user and nonce, so another app's token never finds it.
"""

import base64
import contextlib
import hashlib
import hmac
import secrets
from dataclasses import asdict, replace
from enum import IntEnum

import orjson

from gateway import keys
from gateway.digest import sha256_hex
from gateway.errors import AuthError, InvalidRequest, NotConnected, WattfareError
from gateway.payers.connections import Approval, By, Connections, Term
from gateway.payers.consent_request import Attempt, ConsentRequest, Decision
from gateway.payers.grants import new_token
from gateway.sealing import SealBroken, Sealer
from gateway.store.replies import strings
from gateway.store.store import Store

# Longer than an authorization at OpenRouter may take (payers/authorizations.py).
LIFE_MS = 60 * 60 * 1000
# For a day after that the app gets the state "expired" instead of "unknown".
KEPT_MS = 24 * 60 * 60 * 1000
# WCAG 2.2, criterion 2.2.1: a person who is warned of a time limit may extend it at least ten times.
MOST_EXTENSIONS = 10
# Longer than a token is valid: ten minutes, plus a minute of clock drift.
_SPENT_MS = 15 * 60 * 1000
_SEEN_FROM_OUTSIDE = {"pending": "pending", "claimed": "pending", "held": "pending"}


class Decide(IntEnum):
    """Return codes of `decide.lua`."""

    MOVED = 1
    REPEATED = 0
    UNKNOWN = -1
    EXPIRED = -2
    OTHERWISE = -3


class Extend(IntEnum):
    """Return codes of `extend.lua`."""

    EXTENDED = 1
    KEPT = 0
    UNKNOWN = -1
    EXPIRED = -2
    DECIDED = -3


class Attempts:
    """The store of attempts."""

    def __init__(self, store: Store, connections: Connections, sealer: Sealer) -> None:
        self._store = store
        self._connections = connections
        self._sealer = sealer

    async def create(self, requested: ConsentRequest, *, browser: str, jti: str) -> Attempt:
        """Spend the token and open an attempt, or continue the one that this browser opened with it.

        Raises InvalidRequest 409 when the token was spent elsewhere, Unavailable.
        """
        spent = keys.spent_token(requested.app_id, jti)
        if await self._store.call("SET", spent, requested.attempt_id, "NX", "PX", _SPENT_MS) is None:
            first = await self._store.call("GET", spent)
            if first != requested.attempt_id.encode():
                raise _spent()
        frozen = orjson.dumps(asdict(requested))
        if (
            await self._store.run("begin", [keys.attempt(requested.attempt_id)], [browser, frozen, LIFE_MS, KEPT_MS])
            < 0
        ):
            raise _spent()
        attempt = await self.find(requested.attempt_id, browser)
        if attempt is None:
            raise _spent()
        return attempt

    def with_token(self, requested: ConsentRequest) -> ConsentRequest:
        """Return the request with a new sealed token for its grant."""
        token = new_token(requested.mode)
        sealed = base64.b64encode(self._sealer.seal(token, place=_place(requested.attempt_id))).decode()
        return replace(requested, digest=sha256_hex(token), token=sealed)

    async def grant(self, attempt: Attempt) -> dict[str, object]:
        """Return `{grantToken, expiresAt}` of an approved grant, without `grantToken` once it was delivered.

        Only for the popup in the payer's own browser. Raises Unavailable.
        """
        requested = attempt.requested
        found = await self._connections.find(requested.budget)
        fields: dict[str, object] = {"expiresAt": found.standing.expires_ms // 1000}
        # If the master key was removed meanwhile, the token is lost and the app must request another grant.
        with contextlib.suppress(SealBroken):
            if requested.token:
                fields["grantToken"] = self._sealer.open(
                    base64.b64decode(requested.token), place=_place(attempt.attempt_id)
                )
        return fields

    async def forget_token(self, attempt: Attempt) -> None:
        """Delete the sealed token of a decided grant: the app has it, or will never get it. Raises Unavailable."""
        requested, kept = (
            orjson.dumps(asdict(each)) for each in (attempt.requested, replace(attempt.requested, token=""))
        )
        await self._store.run("replace", [keys.attempt(attempt.attempt_id)], ["asked", requested, kept])

    async def find(self, attempt_id: str, *browsers: str) -> Attempt | None:
        """Return an attempt of a browser, given the digests it may have; None when missing or another browser's.

        Raises Unavailable.
        """
        fields = await self._fields(attempt_id)
        if not fields or not any(hmac.compare_digest(fields["browser"], browser) for browser in browsers):
            return None
        return await self._attempt(fields)

    async def held(self, attempt_id: str) -> Attempt | None:
        """Return an approved attempt that the app has not redeemed yet, for its payer's list. Raises Unavailable."""
        fields = await self._fields(attempt_id)
        attempt = await self._attempt(fields) if fields else None
        return attempt if attempt is not None and attempt.state == "held" else None

    async def approve(self, attempt: Attempt, decision: Decision) -> Attempt:
        """Approve, once: a repeat changes nothing and returns the first result.

        An approval that cannot be carried out is released, so that the payer may decide again.
        Raises InvalidRequest (409 decided otherwise, or `again`: revoked meanwhile; 410 expired), Unavailable.
        """
        requested, approval = attempt.requested, decision.approval
        kept = {
            "claim": secrets.token_hex(16),
            "cap_nano": "" if approval.cap_nano is None else str(approval.cap_nano),
            "text": decision.text,
            "wallet": approval.wallet,
            "code_sha256": sha256_hex(decision.code) if decision.code else "",
            "code": decision.code,
            "funding": self._seal(attempt, approval.funding_key),
            "revocations": str(await self._connections.revocations(requested.budget)),
        }
        await self._move(attempt.attempt_id, "claim", orjson.dumps(kept).decode())
        claimed = await self._load(attempt.attempt_id)
        if claimed.state == "claimed":
            if claimed.decision["claim"] != kept["claim"]:
                raise _overtaken()
            try:
                if requested.challenge:
                    await self._move(attempt.attempt_id, "hold")
                else:
                    await self._connect(claimed)
            except WattfareError as failed:
                # If this fails too, the payer's next decision releases it.
                with contextlib.suppress(WattfareError):
                    claimed = await self.release(claimed)
                if claimed.state == "approved":
                    return claimed
                raise _overtaken() if isinstance(failed, NotConnected) else failed from None
        return await self._load(attempt.attempt_id)

    async def release(self, attempt: Attempt) -> Attempt:
        """Release an approval that was not carried out; one that was carried out becomes approved.

        Returns the attempt in its resulting state: pending, or as decided. Raises Unavailable.
        """
        if attempt.state == "claimed":
            if await self._bar_and_check_receipt(attempt):
                await self._end(attempt)
            else:
                await self._move(attempt.attempt_id, "release", attempt.decision["claim"])
        return await self._load(attempt.attempt_id)

    async def deny(self, attempt: Attempt) -> Attempt:
        """Deny, once; this also cancels an approval that was not carried out or not redeemed yet.

        Raises InvalidRequest (409 approved before, 410 expired), Unavailable.
        """
        code = await self._decide(attempt.attempt_id, "deny")
        if code is Decide.OTHERWISE:
            now = await self._load(attempt.attempt_id)
            if now.state not in {"claimed", "held"}:
                raise _answered()
            if await self._bar_and_check_receipt(now):
                # The approval was carried out, but its answer never reached the payer: the denial is the latest word.
                await self._connections.revoke(now.requested.budget, by=By.PAYER)
            code = await self._decide(attempt.attempt_id, "cancel", now.decision["claim"])
        _check(code)
        return await self._load(attempt.attempt_id)

    async def extend(self, attempt: Attempt) -> Attempt:
        """Extend the payer's time by LIFE_MS from now, at most MOST_EXTENSIONS times; safe to repeat.

        Raises InvalidRequest (409 decided or extended too often, 410 expired), Unavailable.
        """
        limits = [LIFE_MS, KEPT_MS, MOST_EXTENSIONS, attempt.expires_ms]
        code = await self._store.run("extend", [keys.attempt(attempt.attempt_id)], limits)
        match Extend(code):
            case Extend.UNKNOWN | Extend.EXPIRED:
                raise _expired()
            case Extend.DECIDED:
                raise _answered()
            case Extend.KEPT if not attempt.may_extend:
                raise InvalidRequest(
                    "There is no more time for this request. Call connect() again.",
                    status=409,
                    fields={"reason": "spent"},
                )
        return await self._load(attempt.attempt_id)

    async def note_fault(self, attempt_id: str, fault: str) -> None:
        """Store why funding failed, for the popup; an empty `fault` clears it. Raises Unavailable."""
        await self._store.run("note", [keys.attempt(attempt_id)], [fault])

    async def outcome(self, app_id: str, mode: str, user_id: str, nonce: str) -> dict[str, object]:
        """Return `{state, status?}` for the app's own page; for a grant (empty `user_id`) `{state, expiresAt?}`.

        The optional members are present when the state is approved. Raises Unavailable.
        """
        fields = await self._fields(keys.attempt_id(mode, app_id, user_id, nonce))
        if not fields:
            return {"state": "unknown"}
        attempt = await self._attempt(fields)
        state = _SEEN_FROM_OUTSIDE.get(attempt.state, attempt.state)
        if state != "approved":
            return {"state": state}
        if attempt.requested.is_grant:
            # Only the popup's message delivers the grant's token.
            found = await self._connections.find(attempt.requested.budget)
            return {"state": state, "expiresAt": found.standing.expires_ms // 1000}
        return {"state": state, "status": await self._connections.status(attempt.requested.budget)}

    async def redeem(
        self, app_id: str, mode: str, user_id: str, nonce: str, *, code: str, verifier: str
    ) -> dict[str, object]:
        """Open the connection of a redirect-mode approval; return `{state, status}`. Safe to repeat.

        `verifier` proves that the caller is the page that started it, `code` that the payer's browser returned there.
        Raises AuthError, InvalidRequest (410 expired), Unavailable.
        """
        attempt_id = keys.attempt_id(mode, app_id, user_id, nonce)
        fields = await self._fields(attempt_id)
        attempt = await self._attempt(fields) if fields else None
        if attempt is None or not _proves(attempt, code, verifier):
            raise AuthError("This approval was not started by this page. Call connect() again.")
        if attempt.state == "expired":
            raise _expired()
        if attempt.state == "held":
            try:
                await self._connect(attempt)
            except NotConnected:
                # The payer revoked it before it was redeemed.
                await self._decide(attempt_id, "cancel", attempt.decision["claim"])
        return await self.outcome(app_id, mode, user_id, nonce)

    async def _connect(self, attempt: Attempt) -> None:
        """Open the connection as decided, and only then mark the attempt approved."""
        requested, decision = attempt.requested, attempt.decision
        cap = decision["cap_nano"]
        funding = decision["funding"]
        key = self._sealer.open(base64.b64decode(funding), place=_place(attempt.attempt_id)) if funding else None
        approval = Approval(
            cap_nano=int(cap) if cap else None,
            funding_key=key,
            wallet=decision["wallet"],
            origin=requested.origin,
            revocations=int(decision["revocations"]),
            by=By.PAYER,
            text=decision["text"],
            receipt_id=decision["claim"],
            term=Term(requested.requests, requested.life_ms) if requested.is_grant else None,
        )
        await self._connections.approve(requested.budget, approval)
        await self._end(attempt)

    def _seal(self, attempt: Attempt, key: str | None) -> str:
        if key is None:
            return ""
        return base64.b64encode(self._sealer.seal(key, place=_place(attempt.attempt_id))).decode()

    async def _bar_and_check_receipt(self, attempt: Attempt) -> bool:
        """Bar the approval, so that it can no longer be carried out, then return whether it had been before."""
        await self._connections.bar(attempt.requested.budget)
        return await self._connections.has_receipt(attempt.requested.budget, attempt.decision["claim"])

    async def _end(self, attempt: Attempt) -> None:
        """Mark an attempt approved after its approval was carried out."""
        # The connection holds the sealed key and the code is used: keep only what a repeat needs.
        kept = {**attempt.decision, "funding": "", "code": ""}
        await self._move(attempt.attempt_id, "approve", orjson.dumps(kept).decode())

    async def _move(self, attempt_id: str, verb: str, given: str = "") -> None:
        _check(await self._decide(attempt_id, verb, given))

    async def _decide(self, attempt_id: str, verb: str, given: str = "") -> Decide:
        code, _, _ = await self._store.run("decide", [keys.attempt(attempt_id)], [verb, given])
        return Decide(code)

    async def _load(self, attempt_id: str) -> Attempt:
        fields = await self._fields(attempt_id)
        if not fields:
            raise _expired()
        return await self._attempt(fields)

    async def _fields(self, attempt_id: str) -> dict[str, str]:
        return strings(await self._store.call("HGETALL", keys.attempt(attempt_id)))

    async def _attempt(self, fields: dict[str, str]) -> Attempt:
        state, expires_ms = fields["state"], int(fields["expires_ms"])
        requested = ConsentRequest(**orjson.loads(fields["asked"]))
        if state in {"pending", "held"}:
            # The key's TTL tells the time by Redis's clock: it ends KEPT_MS after the time to decide.
            left_ms = await self._store.call("PTTL", keys.attempt(requested.attempt_id))
            state = "expired" if left_ms <= KEPT_MS else state
        return Attempt(
            requested=requested,
            state=state,
            expires_ms=expires_ms,
            fault=fields.get("fault", ""),
            decision=orjson.loads(fields.get("decision") or b"{}"),
            may_extend=int(fields.get("extensions", 0)) < MOST_EXTENSIONS,
        )


def _check(code: Decide) -> None:
    if code in {Decide.UNKNOWN, Decide.EXPIRED}:
        raise _expired()
    if code is Decide.OTHERWISE:
        raise _answered()


def _spent() -> InvalidRequest:
    return InvalidRequest(
        "This session token was already used for another request. Ask your backend for a new one.",
        status=409,
        fields={"reason": "spent"},
    )


def _answered() -> InvalidRequest:
    return InvalidRequest("This request was already answered.", status=409, fields={"reason": "answered"})


def _overtaken() -> InvalidRequest:
    return InvalidRequest(
        "It was answered or stopped elsewhere at the same moment, so this answer does not count. Decide again.",
        status=409,
        fields={"reason": "again"},
    )


def _expired() -> InvalidRequest:
    return InvalidRequest("This request has expired. Call connect() again.", status=410, fields={"reason": "expired"})


def _proves(attempt: Attempt, code: str, verifier: str) -> bool:
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    started = hmac.compare_digest(challenge, attempt.requested.challenge)
    came_back = hmac.compare_digest(sha256_hex(code), attempt.decision.get("code_sha256", ""))
    return started and came_back


def _place(attempt_id: str) -> str:
    """Return the associated data for sealing a funding key between an approval and its connection."""
    return f"attempt:{attempt_id}"
