"""Opens listening sockets.

Rule: with several workers each has its own sockets, opened and kept by the supervisor. The kernel balances new
connections over them, and connections in the backlog of a worker that ended are accepted by its replacement.
"""

import contextlib
import errno
import socket
from collections.abc import Sequence

# Connections that may wait to be accepted; the kernel caps it at net.core.somaxconn, 4096 on current Linux.
BACKLOG = 2048
_NO_SUCH_ADDRESS = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


def open_sockets(host: str, port: int, *, is_shared: bool) -> list[socket.socket]:
    """Return a listening socket for each address of `host`. Raises OSError with host and port in its message.

    `port` 0: the system chooses one, the same for all addresses. `is_shared`: other sockets may bind the same port.
    """
    opened: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        missing: OSError | None = None
        for family, _, _, _, address in dict.fromkeys(found):
            try:
                place = (address[0], port or port_of(opened), *address[2:])
                opened.append(_listen(family, place, is_shared=is_shared))
            except OSError as refused:
                if refused.errno not in _NO_SUCH_ADDRESS:
                    raise
                # `localhost` resolves to ::1 and 127.0.0.1 even where IPv6 is disabled: one of them suffices.
                missing = refused
        if missing is not None and not opened:
            raise missing
    except OSError as refused:
        close_all(opened)
        reason = refused.strerror or type(refused).__name__
        raise OSError(f"cannot listen on {host} port {port}: {reason}") from None
    return opened


def _listen(family: int, place: tuple[object, ...], *, is_shared: bool) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Permits binding a port that recently closed connections still occupy in TIME_WAIT.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(place)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def port_of(sockets: Sequence[socket.socket]) -> int:
    """Return the port that the sockets are bound to; 0 without sockets."""
    return int(sockets[0].getsockname()[1]) if sockets else 0


def close_all(sockets: Sequence[socket.socket]) -> None:
    """Close all sockets."""
    for each in sockets:
        with contextlib.suppress(OSError):
            each.close()
