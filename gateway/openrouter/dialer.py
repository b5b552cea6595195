"""Opens connections: resolves addresses, makes a proxy's tunnel if configured, and starts TLS.

Rule: a cancelled or failed attempt leaves no socket open.
"""

import asyncio
import base64
import socket
import ssl
from typing import TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

import aiohappyeyeballs

from gateway.errors import UpstreamError

Made = TypeVar("Made", bound=asyncio.Protocol)

# The delay before the next address is tried (RFC 8305 §5).
_NEXT_ADDRESS_SECONDS = 0.25
# Resolved addresses are cached for so long: a burst of connections resolves once, and a change is found soon.
_ADDRESS_SECONDS = 10.0
_PROXY_HEAD_BYTES = 16 * 1024
_PORTS = {"http": 80, "https": 443}


class Dialer:
    """Opens connections to the host of one base URL. `proxy_url`: an http:// proxy for tunnels, with credentials."""

    def __init__(self, base: SplitResult, proxy_url: str | None) -> None:
        self._host = base.hostname or ""
        self._port = base.port or _PORTS[base.scheme]
        self._is_tls = base.scheme == "https"
        self._tls: ssl.SSLContext | None = None
        self._proxy = urlsplit(proxy_url) if proxy_url else None
        self._asking = asyncio.Lock()
        self._known: list[tuple[int, int, int, str, tuple[object, ...]]] = []
        self._known_at = 0.0

    async def dial(self, protocol: Made) -> Made:
        """Connect and return `protocol`. Raises UpstreamError, OSError.

        Also RuntimeError, which uvloop raises for some addresses, and UnicodeError for an invalid host name.
        """
        loop = asyncio.get_running_loop()
        peer = await aiohappyeyeballs.start_connection(
            await self._addresses(), happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS
        )
        try:
            if self._proxy is not None:
                await self._tunnel(peer, self._proxy)
        except BaseException:
            peer.close()
            raise
        # From here on the transport owns the socket, and closes it if the handshake fails or is cancelled.
        await loop.create_connection(
            lambda: protocol,
            sock=peer,
            ssl=self._context() if self._is_tls else None,
            server_hostname=self._host if self._is_tls else None,
        )
        return protocol

    async def _addresses(self) -> list[tuple[int, int, int, str, tuple[object, ...]]]:
        """Return the addresses of the proxy if there is one, else of the host."""
        loop = asyncio.get_running_loop()
        host, port = self._host, self._port
        if self._proxy is not None:
            host, port = self._proxy.hostname or "", self._proxy.port or _PORTS["http"]
        async with self._asking:
            if not self._known or loop.time() - self._known_at > _ADDRESS_SECONDS:
                self._known = list(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))
                self._known_at = loop.time()
            return self._known

    def _context(self) -> ssl.SSLContext:
        """Return the TLS context, made at first use, because reading the root certificates takes milliseconds."""
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    async def _tunnel(self, peer: socket.socket, proxy: SplitResult) -> None:
        """Request a tunnel from the proxy (RFC 9110 §9.3.6). Raises OSError, UpstreamError."""
        loop = asyncio.get_running_loop()
        shown = f"[{self._host}]" if ":" in self._host else self._host
        lines = [f"CONNECT {shown}:{self._port} HTTP/1.1", f"Host: {shown}:{self._port}"]
        if proxy.username is not None:
            login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
            lines.append(f"Proxy-Authorization: Basic {base64.b64encode(login.encode()).decode()}")
        await loop.sock_sendall(peer, "\r\n".join([*lines, "", ""]).encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            # No byte may follow the proxy's head: it would belong to the tunnel, in which a TLS client sends first.
            more = await loop.sock_recv(peer, 1024)
            answer += more
            if not more or len(answer) > _PROXY_HEAD_BYTES or b"\r\n\r\n" in answer[:-4]:
                raise UpstreamError("The proxy to OpenRouter did not answer as a proxy does. Try again.")
        status = answer.split(b"\r\n", 1)[0].split(b" ")[1:2]
        if not answer.startswith(b"HTTP/1.") or not status or not status[0].startswith(b"2"):
            raise UpstreamError("The proxy to OpenRouter refused to connect. Try again.")
