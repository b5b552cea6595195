"""Session tokens: JWTs that an app's backend gives its page, valid for ten minutes.

Rule: a token identifies a user of the app; it cannot approve a budget or raise a cap.
"""

import secrets
import time
from dataclasses import dataclass

import jwt

from gateway.errors import AuthError
from gateway.key_rings import KeyRing
from gateway.money import MAX_NANO, usd_from_nano
from gateway.payers.credentials import no_session_token
from gateway.payers.identity import user_id_fault

LIFE_SECONDS = 600  # enough to open a popup, which spends the token at its start
# Clocks of two hosts drift; RFC 7519 §4.1.4 suggests "no more than a few minutes".
_LEEWAY_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Session:
    """The claims of a valid token. `limit_nano`: the cap that the app suggests, None for none.

    `label`: the user's account name as the user knows it, '' if the app gave none.
    """

    app_id: str
    user_id: str
    mode: str
    limit_nano: int | None
    jti: str
    expires_at: int
    label: str = ""


class Sessions:
    """Mints and reads session tokens."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def mint(self, app_id: str, user_id: str, mode: str, limit_nano: int | None, *, label: str = "") -> tuple[str, int]:
        """Return a token and its `expiresAt` in unix seconds. `limit_nano`: the suggested cap, None for none."""
        now = int(time.time())
        expires_at = now + LIFE_SECONDS
        kid, key = self._ring.newest
        claims = {
            "appId": app_id,
            "appUserId": user_id,
            "limits": None if limit_nano is None else {"monthlyUsd": usd_from_nano(limit_nano)},
            "mode": mode,
            "iat": now,
            "exp": expires_at,
            "jti": secrets.token_urlsafe(16),
            **({"userLabel": label} if label else {}),
        }
        return jwt.encode(claims, key, algorithm="HS256", headers={"kid": kid}), expires_at

    def read(self, token: str) -> Session:
        """Return the claims of `token`. Raises AuthError when it is malformed, forged or expired."""
        try:
            kid = str(jwt.get_unverified_header(token).get("kid"))
            claims = self._claims(token, kid)
            return _session(claims)
        except (jwt.InvalidTokenError, ValueError, TypeError, KeyError):
            raise AuthError(no_session_token(token)) from None

    def _claims(self, token: str, kid: str) -> dict[str, object]:
        key = self._ring.find(kid)
        if key is None:
            raise jwt.InvalidTokenError("unknown key id")
        claims: dict[str, object] = jwt.decode(
            token,
            key,
            algorithms=["HS256"],
            leeway=_LEEWAY_SECONDS,
            options={"require": ["exp", "iat", "jti", "appId", "appUserId", "mode"]},
        )
        return claims


def _session(claims: dict[str, object]) -> Session:
    app_id, user_id, mode, jti = (claims[name] for name in ("appId", "appUserId", "mode", "jti"))
    if (
        not isinstance(app_id, str)
        or not isinstance(user_id, str)
        or not isinstance(jti, str)
        or user_id_fault(user_id)
    ):
        raise TypeError("claims")
    if mode not in ("live", "test"):
        raise ValueError("mode")
    expires_at = claims["exp"]
    if not isinstance(expires_at, int):
        raise TypeError("exp")
    label = claims.get("userLabel", "")
    if not isinstance(label, str):
        raise TypeError("userLabel")
    return Session(app_id, user_id, str(mode), _limit_nano(claims.get("limits")), jti, expires_at, label)


def _limit_nano(limits: object) -> int | None:
    if limits is None:
        return None
    usd = limits["monthlyUsd"] if isinstance(limits, dict) else None
    if isinstance(usd, bool) or not isinstance(usd, int | float) or not 0 < usd * 1e9 <= MAX_NANO:
        raise ValueError("limits")
    # The claim was made from a whole number of nano-USD, so rounding the double restores that number exactly.
    return round(usd * 1e9)
