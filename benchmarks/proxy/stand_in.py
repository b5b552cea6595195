"""The stand-in OpenRouter: an nginx that answers at minimal cost and counts its completions by key."""

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

# The cost of each completion in nano-USD; the same in USD is in upstream.lua.
COST_NANO = 13_800
PATH = "/api/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class StandIn:
    """A running stand-in. `certificate`: the file that its TLS clients must trust."""

    port: int
    tls_port: int
    certificate: Path

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        """The base URL with TLS."""
        return f"https://127.0.0.1:{self.tls_port}"

    def served(self, key: str) -> int:
        """Return the number of completions requested with this key."""
        for line in self._control("served").splitlines():
            times, _, sent = line.partition(" ")
            if sent == f"Bearer {key}":
                return int(times)
        return 0

    def release(self) -> None:
        """Make every open slow stream end within about a second."""
        self._control("release")

    def _control(self, what: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", f"/control/{what}")
            return connection.getresponse().read().decode()


@contextlib.contextmanager
def stand_in(folder: Path, *, core: int) -> Iterator[StandIn]:
    """Yield a stand-in OpenRouter running on `core` with its files in `folder`."""
    port, tls_port = free_ports(2)
    certificate = _certify(folder)
    with nginx("upstream", {"PORT": port, "TLS_PORT": tls_port}, folder=folder, core=core, port=port):
        yield StandIn(port, tls_port, certificate)


def _certify(folder: Path) -> Path:
    """Create a key and a self-signed certificate for the loopback address, valid for two days."""
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
