"""The dependencies of every page: the payers' stores, the ledger, the site's origins and the OpenRouter client.

Rule: pages have no access to Redis itself.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from consent_web.assets import Assets
from consent_web.openrouter import OpenRouter
from gateway.ledger.holds import Ledger
from gateway.payers.apps import Apps
from gateway.payers.attempts import Attempts
from gateway.payers.authorizations import Authorizations
from gateway.payers.connections import Connections
from gateway.payers.grants import Bounds
from gateway.payers.limits import RateLimits
from gateway.payers.logins import Logins
from gateway.payers.passkeys import Passkeys
from gateway.payers.sessions import Sessions
from gateway.payers.wallets import Wallets
from gateway.services import Services
from gateway.settings import Operator

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Site:
    """One consent site. `origin`: its own; `gateway`: the API's."""

    origin: str
    gateway: str
    apps: Apps
    sessions: Sessions
    ledger: Ledger
    connections: Connections
    grant_bounds: Bounds
    attempts: Attempts
    authorizations: Authorizations
    limits: RateLimits
    logins: Logins
    passkeys: Passkeys
    wallets: Wallets
    openrouter: OpenRouter
    assets: Assets
    operator: Operator
    default_cap_nano: int
    answers: Callable[[], Awaitable[bool]]
    """Returns whether Redis answers and is valid."""

    @property
    def host(self) -> str:
        """The host (and port) shown in the address bar."""
        return self.origin.partition("://")[2]


SITE = web.AppKey("site", Site)


def build(services: Services, openrouter: OpenRouter) -> Site:
    """Return a site on the given stores."""
    return Site(
        origin=services.settings.consent_url,
        gateway=services.settings.public_url,
        apps=services.apps,
        sessions=services.sessions,
        ledger=services.ledger,
        connections=services.connections,
        grant_bounds=services.grant_bounds,
        attempts=services.attempts,
        authorizations=services.authorizations,
        limits=services.limits,
        logins=services.logins,
        passkeys=services.passkeys,
        wallets=services.wallets,
        openrouter=openrouter,
        assets=Assets.load(),
        operator=services.settings.operator,
        default_cap_nano=services.settings.default_cap_nano,
        answers=services.store.answers,
    )
