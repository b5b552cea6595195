"""The site's calls to OpenRouter: the facts of a key, and the exchange of an OAuth code for a key.

Rule: no message repeats a key or OpenRouter's own text, which may name the payer's account.
"""

import base64
import hashlib
import re
import time
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import urlencode

import orjson

from gateway.errors import FundingInvalid, UpstreamError
from gateway.money import MAX_NANO, NANO_PER_USD, nano_from_usd
from gateway.openrouter.client import Client, Document

# A key's remaining limit changes with every request, so facts are cached only this long.
_FACTS_SECONDS = 20.0
_MOST_FACTS = 1000
_MOST_BYTES = 64 * 1024  # OpenRouter's answers about a key are less than a kilobyte
_MOST_USD = Decimal(MAX_NANO // NANO_PER_USD)
_KEY_LABEL = "Wattfare AI budget"
# Any text that fits in an Authorization header, in case OpenRouter changes the form of its keys.
_KEY = re.compile(r"[!-~]{8,512}")


class CodeRefused(Exception):
    """OpenRouter refused this authorization code: used, expired or not ours."""


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """Facts of a key, from OpenRouter's `GET /key`. None: no limit. `reset`: daily, weekly, monthly or empty."""

    limit_nano: int | None
    remaining_nano: int | None
    reset: str
    is_management: bool
    is_free_tier: bool


@dataclass(frozen=True, slots=True)
class Issued:
    """A key issued by an authorization, and its account's id if OpenRouter returned it."""

    key: str
    user_id: str | None


class OpenRouter:
    """Client of one OpenRouter, at `{base}/api/v1` and `{base}/auth`."""

    def __init__(self, base_url: str, client: Client) -> None:
        self._base = base_url
        self._client = client
        self._seen: dict[str, tuple[float, KeyFacts]] = {}

    def authorize_url(self, callback: str, verifier: str, limit_usd: int) -> str:
        """Return the URL of OpenRouter's authorization page. With S256, `verifier` itself is not sent.

        `limit_usd`: the proposed limit of the key, monthly if OpenRouter's page accepts a period as its API does.
        """
        digest = hashlib.sha256(verifier.encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        query = {
            "callback_url": callback,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "key_label": _KEY_LABEL,
            "limit": limit_usd,
            "usage_limit_type": "monthly",
        }
        return f"{self._base}/auth?{urlencode(query)}"

    async def exchange(self, code: str, verifier: str) -> Issued:
        """Return the key for an OAuth code. Raises CodeRefused, UpstreamError."""
        body = {"code": code, "code_verifier": verifier, "code_challenge_method": "S256"}
        status, found = _read(await self._client.post_json("auth/keys", body, most_bytes=_MOST_BYTES))
        key = found.get("key")
        if status in {400, 403, 404}:
            raise CodeRefused
        if status != 200 or not isinstance(key, str) or not _KEY.fullmatch(key):
            raise _away()
        user_id = found.get("user_id")
        return Issued(key, user_id if isinstance(user_id, str) and user_id else None)

    async def facts(self, key: str) -> KeyFacts:
        """Return the facts of a key. Raises FundingInvalid when OpenRouter refuses the key, UpstreamError."""
        status, found = _read(await self._client.fetch("key", key, most_bytes=_MOST_BYTES))
        if status in {401, 403}:
            raise FundingInvalid("OpenRouter does not accept this key. Check that it is whole and not deleted.")
        facts = found.get("data")
        if status != 200 or not isinstance(facts, dict):
            raise _away()
        return KeyFacts(
            limit_nano=_nano(facts.get("limit")),
            remaining_nano=_nano(facts.get("limit_remaining")),
            reset=str(facts.get("limit_reset") or ""),
            is_management=bool(facts.get("is_management_key") or facts.get("is_provisioning_key")),
            is_free_tier=bool(facts.get("is_free_tier")),
        )

    async def recent_facts(self, key: str) -> KeyFacts:
        """Return possibly cached facts, because a popup polls. Raises FundingInvalid, UpstreamError."""
        name, now = hashlib.sha256(key.encode()).hexdigest(), time.monotonic()
        seen = self._seen.get(name)
        if seen is not None and now - seen[0] < _FACTS_SECONDS:
            return seen[1]
        facts = await self.facts(key)
        if len(self._seen) >= _MOST_FACTS:
            self._seen.clear()
        self._seen[name] = (now, facts)
        return facts


def _read(answer: Document) -> tuple[int, dict[str, object]]:
    """Return the status and the JSON object of an answer. Raises UpstreamError."""
    try:
        found = orjson.loads(answer.body) if answer.body else {}
    except orjson.JSONDecodeError:
        raise _away() from None
    return answer.status, found if isinstance(found, dict) else {}


def _away() -> UpstreamError:
    return UpstreamError("OpenRouter did not answer as expected. Nothing was changed. Try again in a moment.")


def _nano(amount: object) -> int | None:
    if isinstance(amount, bool) or not isinstance(amount, int | float):
        return None
    # Clamp to the largest amount that we can represent; no cap comes near it.
    return nano_from_usd(min(max(Decimal(0), Decimal(repr(amount))), _MOST_USD))
