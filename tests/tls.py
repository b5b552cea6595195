"""TLS in front of a server that speaks none: a certificate of one's own, and a relay that ends TLS."""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate for 127.0.0.1 and its key, as PEM. It is its own authority."""

    pem: str
    key_pem: str

    @classmethod
    def make(cls) -> Self:
        """Make one that holds for a day."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
            .sign(key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return cls(certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode())


@dataclass
class Relay:
    """`port` accepts TLS; `ca_file` is the certificate's signer."""

    port: int
    ca_file: Path


@contextlib.asynccontextmanager
async def open_relay(socket_path: Path, folder: Path) -> AsyncIterator[Relay]:
    """Relay each TLS connection to the unix socket at `socket_path`."""
    certificate = Certificate.make()
    ca_file, key_file = folder / "ca.pem", folder / "key.pem"
    ca_file.write_text(certificate.pem)
    key_file.write_text(certificate.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca_file, key_file)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(1 << 16):
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, into = await asyncio.open_unix_connection(socket_path)
        await asyncio.gather(pump(reader, into), pump(behind, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield Relay(server.sockets[0].getsockname()[1], ca_file)
    finally:
        server.close()
        await asyncio.sleep(0.05)
