"""The sandbox's API keys, whose names select their behaviour, and the PKCE codes they are issued for.

Any `sk-or-v1-…` string is a valid key with its own limit and account. Only its SHA-256 is kept.
"""

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from gateway.money import nano_from_usd

_LIMIT = re.compile(r"-limit(\d{1,6}(?:\.\d{1,9})?)-")


@dataclass(frozen=True)
class ApiKey:
    """One key: label, account, limit and faults."""

    key_sha256: str
    label: str
    user_id: str
    limit_nano: int | None = None
    is_management: bool = False
    is_revoked: bool = False
    has_credit: bool = True


@dataclass(frozen=True)
class Consent:
    """An authorization on the /auth page. `challenge`: None if the app sent none; `expires_at`: unix seconds."""

    user_id: str
    challenge: str | None
    method: str
    label: str
    limit_nano: int | None
    expires_at: float


class ExchangeRefusedError(Exception):
    """A code cannot be exchanged: `status` and OpenRouter's message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class ApiKeys:
    """All keys and open codes of one sandbox."""

    def __init__(self) -> None:
        self._known: dict[str, ApiKey] = {}
        self._codes: dict[str, Consent] = {}

    def find(self, key: str) -> ApiKey:
        """Return a key's record, created on first use."""
        digest = hashlib.sha256(key.encode()).hexdigest()
        if digest not in self._known:
            self._known[digest] = _born(key, digest)
        return self._known[digest]

    def offer(self, consent: Consent) -> str:
        """Return a new code for the consent."""
        code = "auth_code_" + secrets.token_hex(16)
        self._codes[code] = consent
        return code

    def exchange(self, code: str, verifier: str, method: str | None, now: float) -> tuple[str, str]:
        """Return (key, user_id) for a code, once; a wrong verifier does not use it up. Raises ExchangeRefusedError."""
        consent = self._codes.get(code)
        if method not in (None, "S256", "plain"):
            raise ExchangeRefusedError(400, "Invalid code_challenge_method")
        if consent is None:
            raise ExchangeRefusedError(403, "Invalid code or code_verifier")
        if now >= consent.expires_at:
            raise ExchangeRefusedError(403, "Authorization code expired")
        if consent.challenge is not None and method not in (None, consent.method):
            raise ExchangeRefusedError(400, "Invalid code_challenge_method")
        if consent.challenge is not None and not _matches(consent, verifier):
            raise ExchangeRefusedError(403, "Invalid code or code_verifier")
        del self._codes[code]
        return self._issue(consent), consent.user_id

    def _issue(self, consent: Consent) -> str:
        key = "sk-or-v1-" + secrets.token_hex(32)
        digest = hashlib.sha256(key.encode()).hexdigest()
        label = consent.label or _label(key)
        self._known[digest] = ApiKey(digest, label, consent.user_id, consent.limit_nano)
        return key


def _born(key: str, digest: str) -> ApiKey:
    limit = _LIMIT.search(key)
    return ApiKey(
        key_sha256=digest,
        label=_label(key),
        user_id="user_" + digest[:27],
        limit_nano=nano_from_usd(limit[1]) if limit else None,
        is_management="-mgmt-" in key,
        is_revoked="-revoked-" in key,
        has_credit="-nocredit-" not in key,
    )


def _label(key: str) -> str:
    return f"{key[:12]}...{key[-3:]}"


def _matches(consent: Consent, verifier: str) -> bool:
    if consent.method == "plain":
        answer = verifier
    else:
        answer = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    return hmac.compare_digest(answer.encode(), (consent.challenge or "").encode())
