"""`python -m gateway.sweeper`: a process that sweeps and sends webhooks, for gateways with WATTFARE_SWEEPER=off."""

import asyncio
import signal
import sys

import uvloop

from devstore.embedded import EmbeddedError
from gateway import logs, metrics
from gateway.environment import SettingsError
from gateway.ledger.sweeper import Sweeper
from gateway.logs import log
from gateway.openrouter.client import Client
from gateway.services import open_services, refuse_eviction
from gateway.settings import Settings
from gateway.webhooks.sender import Sender


async def serve(settings: Settings) -> None:
    """Sweep and send webhooks until SIGTERM or SIGINT. Raises EmbeddedError, SettingsError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_services(settings) as services:
        await refuse_eviction(services.store)
        upstream = Client.of(settings)
        sweeper = Sweeper(services.ledger, upstream, services.sealer, reconcile_seconds=settings.reconcile_seconds)
        sender = Sender.of(services.store, services.ledger.events, services.endpoints, settings)
        looking = [loop.create_task(each.run()) for each in (sweeper, sender)]
        log.info("sweeping")
        try:
            await stop.wait()
        finally:
            for task in looking:
                task.cancel()
            await asyncio.gather(*looking, return_exceptions=True)
            await sweeper.close()
            await sender.close()
            await upstream.close()
    log.info("stopped")


def main() -> None:
    """Run the sweeper. Exits 1 with one line when it cannot start."""
    try:
        settings = Settings.load()
        logs.configure(settings.log_level, settings.log_format)
        if settings.metrics_port:
            metrics.serve(settings.host, settings.metrics_port)
        uvloop.run(serve(settings))
    except (SettingsError, EmbeddedError, OSError) as refused:
        print(f"gateway.sweeper: {refused}", file=sys.stderr)  # noqa: T201 - the one line that says why
        sys.exit(1)


if __name__ == "__main__":
    main()
