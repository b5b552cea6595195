"""A gateway process: opens everything, listens, drains, and closes in reverse order.

On SIGTERM it stops accepting, lets streams finish, settles open requests, then closes Redis.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiohttp import web

from gateway.edge.api import Api
from gateway.edge.routes import Routes
from gateway.keys import Budget, wakes
from gateway.ledger.sweeper import Sweeper
from gateway.lifecycle import Lifecycle
from gateway.listening import port_of
from gateway.logs import log
from gateway.metered.admission import Admissions
from gateway.metered.closing import Closing
from gateway.metered.inflight import Inflight
from gateway.metered.proxy import Proxy
from gateway.metered.relay import Relay
from gateway.metered.tracing import traced
from gateway.metered.waiting import WaitingRequests
from gateway.openrouter.client import Client
from gateway.openrouter.prices import Prices
from gateway.protocol import CallerServer
from gateway.services import Services, open_services, refuse_eviction
from gateway.settings import Settings
from gateway.store.broadcast import Cut
from gateway.watch import keep_watching
from gateway.webhooks.sender import Sender

_SETTLE_SECONDS = 5.0
# Time for a request that arrived on a kept connection while the last streams finished.
_LATE_SECONDS = 5.0
# Time for the small resources, which need a few Redis calls each.
_SMALL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway and its parts."""

    services: Services
    server: CallerServer
    inflight: Inflight
    waiting: WaitingRequests
    sweeper: Sweeper
    prices: Prices
    sender: Sender

    async def handle_cut(self, cut: Cut) -> None:
        """Act on a revocation, a closed app or a rotated secret."""
        if cut.kind == "budget":
            self.inflight.cut_budget(cut.name)
            return
        self.services.apps.forget(cut.name)
        if cut.kind == "app":
            self.inflight.cut_app(cut.name)

    def handle_wake(self, message: bytes) -> None:
        """Wake a waiting request whose turn it is; if it is no longer here, remove it from the queue in Redis."""
        if (unknown := self.waiting.handle_wake(message)) is None:
            return
        queue, request_id = unknown
        budget = Budget.parse(queue.removesuffix(":queue"))
        if not self.inflight.carries(budget.name, request_id):
            self.services.ledger.keep_leave(budget, request_id, wakes(self.services.broadcast.process))

    async def catch_up(self) -> None:
        """Act on all that may have been missed while no messages were received. Raises Unavailable."""
        self.services.apps.forget_all()
        self.waiting.wake_all()
        await self.inflight.check(self.services.apps.is_closed)

    async def end(self) -> None:
        """End open requests, and wait until their settlements have reached Redis."""
        self.waiting.stop()
        await self.inflight.end()
        await self.services.store.drained(_SETTLE_SECONDS)


@contextlib.asynccontextmanager
async def open_gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """Yield a gateway that is ready to listen. Raises EmbeddedError, SettingsError (a Redis that may evict keys)."""
    async with open_services(settings) as services:
        await refuse_eviction(services.store)
        client = Client.of(settings)
        tasks: list[asyncio.Task[None]] = []
        gateway = _assemble(services, client)
        try:
            await gateway.prices.start()
            await services.broadcast.listen(gateway.handle_cut, gateway.catch_up, gateway.handle_wake)
            background = [gateway.prices.keep_fresh(), gateway.inflight.tick()]
            if settings.metrics_port:
                gauged = services.store, gateway.prices, gateway.inflight, gateway.waiting
                background.append(keep_watching(*gauged))
            if settings.sweeper:
                background += [gateway.sweeper.run(), gateway.sender.run()]
            tasks = [asyncio.get_running_loop().create_task(work) for work in background]
            yield gateway
        finally:
            await gateway.end()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await gateway.sweeper.close()
            await gateway.sender.close()
            await client.close()


def _assemble(services: Services, client: Client) -> Gateway:
    settings, ledger = services.settings, services.ledger
    prices = Prices(services.store, client)
    inflight = Inflight(ledger)
    waiting = WaitingRequests(services.broadcast.process, may_wait=settings.admission_wait_seconds > 0)
    admissions = Admissions(
        ledger=ledger,
        prices=prices,
        inflight=inflight,
        waiting=waiting,
        goes_beyond=settings.holds == "expected",
        wait_seconds=settings.admission_wait_seconds,
        manage_url=f"{settings.consent_url}/",
    )
    sweeper = Sweeper(
        ledger,
        client,
        services.sealer,
        reconcile_seconds=settings.reconcile_seconds,
        is_sweeping=settings.sweeper,
    )
    closing = Closing(ledger, prices, sweeper)
    relay = Relay(ledger, closing, client.timeouts, caller_seconds=settings.caller_silence_seconds)
    proxy = Proxy(
        store=services.store,
        apps=services.apps,
        app_pace=services.app_pace,
        ledger=ledger,
        sealer=services.sealer,
        client=client,
        prices=prices,
        inflight=inflight,
        admissions=admissions,
        closing=closing,
        relay=relay,
    )
    routes = Routes(proxy, Api(services, prices), settings)
    server = CallerServer(routes.handle)
    sender = Sender.of(services.store, ledger.events, services.endpoints, settings)
    return Gateway(services, server, inflight, waiting, sweeper, prices, sender)


async def serve(settings: Settings, lifecycle: Lifecycle | None = None) -> None:
    """Run one gateway process until it is stopped. Raises EmbeddedError, SettingsError, OSError (a taken port)."""
    lifecycle = lifecycle or Lifecycle(settings)
    async with lifecycle.supervised(), traced(settings), open_gateway(settings) as gateway:
        runner = web.ServerRunner(gateway.server, shutdown_timeout=_SMALL_SECONDS)
        await runner.setup()
        sockets = await lifecycle.listen(runner)
        log.info("listening", host=settings.host, port=port_of(sockets))
        lifecycle.report_ready()
        await lifecycle.until_stop()
        log.info("draining", open_requests=len(gateway.inflight))
        await asyncio.gather(*(site.stop() for site in tuple(runner.sites)))
        gateway.server.close_kept()
        gateway.waiting.stop()
        await gateway.inflight.ended(settings.drain_seconds)
        await gateway.server.left(min(lifecycle.grace_seconds, settings.drain_seconds))
        # Requests that arrived meanwhile get time too, within the limit of the drain.
        await gateway.inflight.ended(min(_LATE_SECONDS, settings.drain_seconds))
        await gateway.end()
        await runner.cleanup()
        await gateway.sweeper.close(seconds=_SETTLE_SECONDS)
    log.info("stopped")
