"""Parses REDIS_URL (one server, a Sentinel group or a Cluster, with credentials and TLS). The only parser of it.

Rule: no error repeats the URL, which may contain a password.
"""

import ipaddress
import re
import ssl
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

FORMS = (
    "redis://host[:port][/db], rediss:// for TLS, unix://path, redis+cluster://host:port[,host:port]"
    " or redis+sentinel://host:port[,host:port]/name"
)
_PORT = 6379
_Kind = Literal["single", "cluster", "sentinel"]
_KINDS: dict[str, tuple[_Kind, bool]] = {
    "redis": ("single", False),
    "rediss": ("single", True),
    "unix": ("single", False),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
    "redis+sentinel": ("sentinel", False),
}
# Query parameters, named as in redis-py's URLs.
_QUERY = {"db", "ssl_cert_reqs", "ssl_ca_certs"}


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """`hosts`: the server, the Sentinels or the Cluster's first nodes; empty for a unix socket, which has a `path`."""

    kind: _Kind
    hosts: tuple[tuple[str, int], ...]
    path: str = ""
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    db: int = 0
    master_name: str = ""
    """The Sentinels' name of the group."""
    is_tls: bool = False
    ca_file: str | None = None
    """The CA that signed the server's certificate; None: the system's CAs."""
    is_self_signed: bool = False
    """Encrypt without verifying the server's certificate."""

    def tls(self) -> ssl.SSLContext | None:
        """Return the TLS context, None without TLS. Raises OSError or ssl.SSLError when the CA file cannot be used."""
        if not self.is_tls:
            return None
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.is_self_signed:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def parse(url: str) -> RedisUrl:
    """Parse a URL in one of `FORMS`. Raises ValueError."""
    if re.search(r"[\s\x00-\x1f\x7f\\#]", url):
        raise ValueError("a character that must be escaped")
    parts = urlsplit(url)
    if parts.scheme not in _KINDS:
        raise ValueError("an unknown scheme")
    kind, is_tls = _KINDS[parts.scheme]
    credentials, _, address = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    path = ""
    hosts: tuple[tuple[str, int], ...] = ()
    if parts.scheme == "unix":
        path = address + parts.path
        if not path:
            raise ValueError("no path")
    else:
        hosts = tuple(_host(one, is_port_needed=kind != "single") for one in address.split(","))
        if kind == "single" and len(hosts) != 1:
            raise ValueError("one server is one host")
    query = _query(parts)
    return RedisUrl(
        kind,
        hosts,
        path,
        unquote(username) or None,
        unquote(password) or None,
        _db(kind, parts, query),
        _master_name(parts) if kind == "sentinel" else "",
        is_tls,
        query.get("ssl_ca_certs"),
        query.get("ssl_cert_reqs") == "none",
    )


def is_host(host: str) -> bool:
    """Return whether this is an IP address or a possible host name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return bool(re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252})", host)) and not re.fullmatch(r"[0-9.]+", host)
    return True


def _host(address: str, *, is_port_needed: bool) -> tuple[str, int]:
    host, colon, port = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(:?)(.*)", address, re.DOTALL).groups()  # type: ignore[union-attr]
    host = host.strip("[]")
    if not is_host(host) or (is_port_needed and not colon):
        raise ValueError("a host or its port is missing")
    if colon and not (re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) < 65536):
        raise ValueError("no port")
    return host, int(port) if colon else _PORT


def _query(parts: SplitResult) -> dict[str, str]:
    query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    if query.keys() - _QUERY or query.get("ssl_cert_reqs", "none") not in ("none", "required"):
        raise ValueError("an unknown setting")
    return query


def _db(kind: _Kind, parts: SplitResult, query: dict[str, str]) -> int:
    written = query.get("db", "" if parts.scheme == "unix" or kind == "sentinel" else parts.path.removeprefix("/"))
    if not re.fullmatch(r"[0-9]{0,5}", written) or (kind == "cluster" and written):
        raise ValueError("no database")
    return int(written or 0)


def _master_name(parts: SplitResult) -> str:
    name = parts.path.removeprefix("/")
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise ValueError("no name of a master")
    return name
