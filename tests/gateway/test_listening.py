"""The sockets of a service: one port on each address, shared among workers or not, and kept while workers change."""

import socket

import pytest

from gateway.listening import close_all, open_sockets, port_of


def test_a_name_is_listened_on_at_each_of_its_addresses_with_one_port() -> None:
    """`localhost` is 127.0.0.1 and, where there is IPv6, ::1."""
    opened = open_sockets("localhost", 0, is_shared=False)
    try:
        assert len({port_of([each]) for each in opened}) == 1
        for each in opened:
            with socket.create_connection(each.getsockname()[:2], timeout=5):
                pass
    finally:
        close_all(opened)


def test_several_workers_share_a_port_and_nobody_else_takes_it() -> None:
    """The error for a port in use names the port."""
    first = open_sockets("127.0.0.1", 0, is_shared=True)
    second = open_sockets("127.0.0.1", port_of(first), is_shared=True)
    try:
        assert port_of(second) == port_of(first)
        with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1 port {port_of(first)}: ") as refused:
            open_sockets("127.0.0.1", port_of(first), is_shared=False)
        assert "\n" not in str(refused.value)
    finally:
        close_all(first + second)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_that_is_not_ours_is_told(host: str) -> None:
    """Of an address that is no host's and of a name that is none."""
    with pytest.raises(OSError, match=f"cannot listen on {host}"):
        open_sockets(host, 0, is_shared=False)
