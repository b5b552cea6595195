"""What every page of the site stands on: the stores, the settings and the way to OpenRouter."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from consent_web.assets import Assets
from consent_web.openrouter import OpenRouter
from gateway.apps import Apps
from gateway.attempts import Attempts
from gateway.broadcast import Broadcast
from gateway.connections import Connections
from gateway.ledger import Ledger
from gateway.sealing import Sealer
from gateway.sessions import Sessions
from gateway.settings import Settings
from gateway.store import Store
from gateway.wallets import Wallets

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Site:
    """One consent site."""

    origin: str
    store: Store
    apps: Apps
    sessions: Sessions
    ledger: Ledger
    connections: Connections
    attempts: Attempts
    wallets: Wallets
    openrouter: OpenRouter
    assets: Assets

    @property
    def host(self) -> str:
        """The name that a person sees in the address bar."""
        return self.origin.partition("://")[2]


SITE = web.AppKey("site", Site)


def build(settings: Settings, store: Store, openrouter: OpenRouter) -> Site:
    """Put the stores together, as the gateway does."""
    broadcast = Broadcast(store)
    sealer = Sealer(settings.master_keys)
    lease_ms = int(settings.hold_seconds * 1000)
    ledger = Ledger(store, keep_days=settings.ledger_days, lease_ms=lease_ms)
    connections = Connections(store, ledger, sealer, broadcast)
    return Site(
        origin=settings.consent_url,
        store=store,
        apps=Apps(store, broadcast),
        sessions=Sessions(store, settings.jwt_keys),
        ledger=ledger,
        connections=connections,
        attempts=Attempts(store, connections, sealer),
        wallets=Wallets(store, sealer),
        openrouter=openrouter,
        assets=Assets.load(),
    )
