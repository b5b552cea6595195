"""Run the consent site: `python -m consent_web`, on $HOST:$PORT."""

import asyncio
import contextlib
import signal
import sys

from aiohttp import web

from consent_web.server import create_app
from gateway import embedded, logs
from gateway.settings import Settings, SettingsError

_DEFAULT_PORT = 8081


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; then let open requests finish. Raises EmbeddedError, OSError."""
    redis_url = settings.redis_url or await embedded.ensure(settings.data_dir)
    runner = web.AppRunner(
        await create_app(settings, redis_url), access_log=None, shutdown_timeout=settings.drain_seconds
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port, reuse_address=True, reuse_port=settings.workers > 1)
        await site.start()
        logs.log.info("consent_listening", host=settings.host, port=settings.port, url=settings.consent_url)
        await _told_to_stop()
    finally:
        await runner.cleanup()


async def _told_to_stop() -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, told.set)
    await told.wait()


def main() -> None:
    """Serve; a malformed setting or a taken port is one line and exit 1."""
    try:
        settings = Settings.load(default_port=_DEFAULT_PORT)
        logs.configure()
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(settings))
    except (SettingsError, embedded.EmbeddedError, OSError) as fault:
        sys.exit(str(fault))


if __name__ == "__main__":
    main()
