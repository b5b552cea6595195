"""A gateway process: opens everything, listens, drains, closes in reverse.

On SIGTERM: stop accepting, let streams finish, settle what is open, then let go of Redis.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from gateway.call import Call
from gateway.edge.api import Api
from gateway.edge.routes import Routes
from gateway.errors import InvalidRequest
from gateway.ledger.sweeper import Sweeper
from gateway.logs import log
from gateway.metered.closing import Closing
from gateway.metered.exchange import Exchanges
from gateway.metered.proxy import Proxy
from gateway.openrouter.client import Client, Upstream
from gateway.openrouter.prices import Prices
from gateway.services import Services, open_services
from gateway.settings import Settings
from gateway.store.broadcast import Cut

# A token names a user of 256 bytes; some clients send long cookies and trace headers beside it.
_HEADER_BYTES = 32 * 1024
# How long a connection may be idle, and how long a head may take: aiohttp has one timer for both.
_KEEPALIVE_SECONDS = 75.0
_LINGER_SECONDS = 5.0
_SETTLE_SECONDS = 5.0


class _Protocol(RequestHandler):
    """aiohttp's connection, whose own errors (a malformed request) come in the envelope and log no byte of it."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the envelope for a request that is no HTTP."""
        del exc, message
        call = Call(request)
        said = InvalidRequest("This is not a well-formed HTTP request.", status=status if status < 500 else 400)
        response = call.refuse(said)
        response.force_close()
        call.tell(response.status)
        return response


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return _Protocol(
            self,
            loop=self._loop,
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=_KEEPALIVE_SECONDS,
            lingering_time=_LINGER_SECONDS,
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
            auto_decompress=False,
        )


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway: what serves it, and what a test may look into."""

    services: Services
    server: _Server
    exchanges: Exchanges
    closing: Closing
    sweeper: Sweeper
    prices: Prices


@contextlib.asynccontextmanager
async def open_gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """Yield a gateway that is ready to listen."""
    async with open_services(settings) as services:
        upstream = Client.of(settings)
        tasks: list[asyncio.Task[None]] = []
        gateway = _assemble(services, upstream)
        try:
            await gateway.prices.start()
            await services.broadcast.listen(_hearing(gateway), _catching_up(gateway))
            background: list[Coroutine[Any, Any, None]] = [
                gateway.prices.keep_fresh(),
                gateway.exchanges.keep_alive(),
            ]
            if settings.sweeper:
                background.append(gateway.sweeper.run())
            tasks = [asyncio.get_running_loop().create_task(work) for work in background]
            yield gateway
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await gateway.exchanges.end()
            await gateway.closing.drain(_SETTLE_SECONDS)
            await gateway.sweeper.close()
            await upstream.close()


def _assemble(services: Services, upstream: Client) -> Gateway:
    settings, ledger = services.settings, services.ledger
    prices = Prices(services.store, upstream)
    exchanges = Exchanges(ledger)
    sweeper = Sweeper(ledger, upstream, services.sealer, reconcile_seconds=settings.reconcile_seconds)
    look_at = sweeper.notice if settings.sweeper else sweeper.announce
    closing = Closing(
        services.store,
        ledger,
        prices,
        on_handed_over=lambda exchange: look_at(exchange.budget),
        on_given_up=lambda exchange, generation_id: sweeper.ask(
            exchange.budget, exchange.request_id, generation_id, exchange.funding, ended_by=exchange.ended_by
        ),
    )
    ledger.on_overdue = look_at
    proxy = Proxy(
        store=services.store,
        apps=services.apps,
        ledger=ledger,
        sealer=services.sealer,
        upstream=Upstream(upstream),
        prices=prices,
        exchanges=exchanges,
        closing=closing,
        caller_seconds=settings.caller_silence_seconds,
    )
    routes = Routes(proxy, Api(services, prices), caller_seconds=settings.caller_silence_seconds)
    # A caller who hangs up cancels the handler: upstream is closed at once, which stops the billing at most providers.
    server = _Server(routes.handle, handler_cancellation=True)
    return Gateway(services, server, exchanges, closing, sweeper, prices)


def _hearing(gateway: Gateway) -> Any:
    async def hear(cut: Cut) -> None:
        if cut.kind == "budget":
            gateway.exchanges.cut_budget(cut.name)
            return
        gateway.services.apps.forget(cut.name)
        if cut.kind == "app":
            gateway.exchanges.cut_app(cut.name)

    return hear


def _catching_up(gateway: Gateway) -> Callable[[], Awaitable[None]]:
    async def missed() -> None:
        gateway.services.apps.forget_all()
        await gateway.exchanges.check(gateway.services.apps.is_closed)

    return missed


async def serve(settings: Settings, *, shared_port: bool = False) -> None:
    """Run one gateway process until SIGTERM or SIGINT. `shared_port`: other workers listen on it too."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_gateway(settings) as gateway:
        runner = web.ServerRunner(gateway.server, shutdown_timeout=settings.drain_seconds)
        await runner.setup()
        site = web.TCPSite(runner, settings.host, settings.port, reuse_port=shared_port or None, backlog=2048)
        await site.start()
        log.info("listening", host=settings.host, port=_port(site, settings))
        await stop.wait()
        log.info("draining", open_requests=len(gateway.exchanges))
        # Stops accepting, waits for running handlers up to the drain time, then cancels them; each then settles.
        await runner.cleanup()
        await gateway.exchanges.end()
        await gateway.closing.drain(_SETTLE_SECONDS)
        await gateway.sweeper.close(seconds=_SETTLE_SECONDS)
    log.info("stopped")


def _port(site: web.TCPSite, settings: Settings) -> int:
    server = site._server  # noqa: SLF001 - aiohttp tells the bound port nowhere else
    sockets: tuple[socket.socket, ...] = getattr(server, "sockets", ()) or ()
    return int(sockets[0].getsockname()[1]) if sockets else settings.port
