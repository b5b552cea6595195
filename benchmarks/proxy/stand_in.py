"""The stand-in OpenRouter: an nginx that answers at next to no cost and counts what it served, by key."""

import contextlib
import datetime as dt
import http.client
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from benchmarks.proxy.nginx import nginx
from tests.servers import free_ports

# What each completion costs, in nano-USD; upstream.lua says the same in USD.
COST_NANO = 13_800
PATH = "/api/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class StandIn:
    """A running stand-in. `certificate`: the file that whoever speaks TLS to it must trust."""

    port: int
    tls_port: int
    certificate: Path

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        """Base URL with TLS."""
        return f"https://127.0.0.1:{self.tls_port}"

    def served(self, key: str) -> int:
        """Return how many completions were asked for with this key."""
        for line in self._control("served").splitlines():
            times, _, sent = line.partition(" ")
            if sent == f"Bearer {key}":
                return int(times)
        return 0

    def release(self) -> None:
        """Let every open slow stream come to its end, within a second or so."""
        self._control("release")

    def _control(self, what: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", f"/control/{what}")
            return connection.getresponse().read().decode()


@contextlib.contextmanager
def stand_in(folder: Path, *, core: int) -> Iterator[StandIn]:
    """Yield a stand-in OpenRouter that runs on `core` and keeps its files in `folder`."""
    port, tls_port = free_ports(2)
    certificate = _certify(folder)
    with nginx("upstream", {"PORT": port, "TLS_PORT": tls_port}, folder=folder, core=core, port=port):
        yield StandIn(port, tls_port, certificate)


def _certify(folder: Path) -> Path:
    """Make a key and a certificate for the loopback address, signed by itself, for two days."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stand-in")])
    now = dt.datetime.now(dt.UTC)
    day = dt.timedelta(days=1)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "upstream.key").write_bytes(private)
    path = folder / "upstream.crt"
    path.write_bytes(certificate.public_bytes(pem))
    return path
