"""What the environment asks for, read once at start and validated; the only reader of `os.environ` in the gateway.

Rule: a missing or malformed value is one line that names the variable and says what to do. It never repeats a value:
the value may be a key.
"""

import base64
import binascii
import ipaddress
import json
import os
import re
import secrets
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from gateway import redis_url
from gateway.redis_url import is_host

KEY_BYTES: Final = 32  # AES-256, and the block that HS256 wants at least (RFC 7518 §3.2)
MIN_LEDGER_DAYS: Final = 31  # the rolling month is 30 UTC days; verify needs all of it
MAX_LEDGER_DAYS: Final = 36_500  # a hundred years: more is a slip of the keyboard
MAX_WORKERS: Final = 256  # more processes than any host has cores
MAX_METRICS_PORT: Final = 65_000  # leaves room for a port for each worker above it
MAX_BODY_MB: Final = 1024  # a body is held in memory, several times over while it is read
CONSENT_PORT: Final = 8081  # where the consent site listens by default

_KID = re.compile(r"[A-Za-z0-9_-]{1,32}")
_INTEGER = re.compile(r"[0-9]{1,9}")
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,3})?")
_LOG_LEVELS = ("debug", "info", "warning", "error")


class SettingsError(ValueError):
    """One line that names a variable and says what to do. Holds no value of a secret."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Keys of 32 bytes with their ids, newest first. The newest signs and seals; each verifies and opens."""

    keys: tuple[tuple[str, bytes], ...] = field(repr=False)

    @property
    def newest(self) -> tuple[str, bytes]:
        """The id and the bytes of the key in use."""
        return self.keys[0]

    def find(self, kid: str) -> bytes | None:
        """Return the key with this id, None when the ring has none."""
        return next((key for known, key in self.keys if known == kid), None)

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(kid for kid, _ in self.keys)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a process is told from outside. Its repr shows no secret."""

    production: bool
    redis_url: str | None = field(repr=False)
    """None: the embedded server in `data_dir`, development only."""
    redis_ca_file: Path | None
    """Who signed the certificate of a Redis behind TLS. None: whom the system trusts."""
    redis_self_signed: bool
    """Encrypt, but ask nobody who the Redis is."""
    openrouter_base_url: str
    """No trailing slash; the API is at `{base}/api/v1`, OAuth at `{base}/auth`."""
    upstream_proxy: str | None = field(repr=False)
    """An http:// proxy to tunnel to OpenRouter through, user and password included."""
    master_keys: KeyRing
    jwt_keys: KeyRing
    public_url: str
    """Origin of the gateway, as browsers send it."""
    consent_url: str
    """Origin of the consent site, as browsers send it."""
    host: str
    port: int
    """0 lets the system choose."""
    workers: int
    metrics_port: int
    """0: no metrics. Worker n serves its own on this port + n."""
    drain_seconds: float
    data_dir: Path
    """Absolute. Holds the embedded server and the development keys."""
    state_file: Path | None
    """Where the epoch and beat of Redis are remembered over a restart; None: nowhere."""
    log_level: str
    ledger_days: int
    """How many UTC days ledger entries and closed holds are kept."""
    hold_seconds: float
    """How long a hold lives before the sweeper calls it overdue."""
    sweeper: bool
    """Whether the gateway's processes sweep; a process of its own may do it instead."""
    reconcile_seconds: float
    """How long the sweeper asks OpenRouter for a cost before it settles at the estimate."""
    redis_deadline_ms: int
    """How long Redis may say nothing at all before it counts as away."""
    upstream_connect_seconds: float
    upstream_first_byte_seconds: float
    upstream_silence_seconds: float
    """How long OpenRouter may send nothing inside an answer."""
    upstream_keepalive_seconds: float
    """How long OpenRouter may send nothing but comments."""
    caller_silence_seconds: float
    """How long a caller may take nothing of an answer."""
    max_body_mb: int
    """How large the body of a metered call may be, in MB of 1,048,576 bytes."""

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, *, default_port: int = 8080) -> "Settings":
        """Return the settings of `environ` (default: the process's own). Raises SettingsError.

        In development without key rings it makes them, once, in `data_dir/keys.json`.
        """
        source = _Environment(os.environ if environ is None else environ)
        production = source.choice("WATTFARE_ENV", "development", ("development", "production")) == "production"
        data_dir = Path(source.text("WATTFARE_DATA_DIR") or ".wattfare").expanduser().absolute()
        state_file = source.text("WATTFARE_STATE_FILE")
        url = source.redis_url(required=production)
        master_keys, jwt_keys = _key_rings(source, data_dir, required=production)
        host = source.host("HOST", "127.0.0.1")
        port = source.integer("PORT", default_port, least=0, most=65535)
        # When only the port of the consent site was changed, its default origin has that port.
        is_consent_site = default_port == CONSENT_PORT and host == "127.0.0.1" and port != 0
        consent_url = f"http://127.0.0.1:{port if is_consent_site else CONSENT_PORT}"
        openrouter_base_url = source.web_url("OPENROUTER_BASE_URL", "https://openrouter.ai")
        return cls(
            production=production,
            openrouter_base_url=openrouter_base_url,
            upstream_proxy=source.proxy_for(openrouter_base_url),
            redis_url=url,
            redis_ca_file=source.redis_ca_file(url),
            redis_self_signed=source.redis_self_signed(url),
            master_keys=master_keys,
            jwt_keys=jwt_keys,
            public_url=source.origin("WATTFARE_PUBLIC_URL", "http://127.0.0.1:8080", secure=production),
            consent_url=source.origin("WATTFARE_CONSENT_URL", consent_url, secure=production),
            host=host,
            port=port,
            workers=source.integer("WEB_CONCURRENCY", 1, least=1, most=MAX_WORKERS),
            metrics_port=source.integer("WATTFARE_METRICS_PORT", 0, least=0, most=MAX_METRICS_PORT),
            drain_seconds=source.seconds("WATTFARE_DRAIN_SECONDS", 25, zero=True),
            data_dir=data_dir,
            state_file=Path(state_file).expanduser().absolute() if state_file else None,
            log_level=source.choice("WATTFARE_LOG_LEVEL", "info", _LOG_LEVELS),
            ledger_days=source.integer("WATTFARE_LEDGER_DAYS", 90, least=MIN_LEDGER_DAYS, most=MAX_LEDGER_DAYS),
            hold_seconds=source.seconds("WATTFARE_HOLD_SECONDS", 60),
            sweeper=source.choice("WATTFARE_SWEEPER", "on", ("on", "off")) == "on",
            reconcile_seconds=source.seconds("WATTFARE_RECONCILE_SECONDS", 300),
            redis_deadline_ms=source.integer("WATTFARE_REDIS_DEADLINE_MS", 75, least=1, most=60_000),
            upstream_connect_seconds=source.seconds("WATTFARE_UPSTREAM_CONNECT_SECONDS", 10),
            upstream_first_byte_seconds=source.seconds("WATTFARE_UPSTREAM_FIRST_BYTE_SECONDS", 300),
            upstream_silence_seconds=source.seconds("WATTFARE_UPSTREAM_SILENCE_SECONDS", 120),
            upstream_keepalive_seconds=source.seconds("WATTFARE_UPSTREAM_KEEPALIVE_SECONDS", 1800),
            caller_silence_seconds=source.seconds("WATTFARE_CALLER_SILENCE_SECONDS", 120),
            max_body_mb=source.integer("WATTFARE_MAX_BODY_MB", 32, least=1, most=MAX_BODY_MB),
        )

    def patient(self, redis_deadline_ms: int) -> "Settings":
        """Return these settings with another Redis deadline, for a command that no request waits for."""
        return replace(self, redis_deadline_ms=redis_deadline_ms)


class _Environment:
    """Variables, each parsed as what it must be. An empty one counts as absent: compose files set those."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def text(self, name: str) -> str | None:
        value = self._variables.get(name, "").strip()
        if "\0" in value:
            raise SettingsError(f"{name} holds a NUL character; remove it.")
        return value or None

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        value = self.text(name) or default
        if value not in choices:
            raise SettingsError(f"{name} must be {' or '.join(choices)}; set one of them or leave it out.")
        return value

    def integer(self, name: str, default: int, *, least: int, most: int) -> int:
        value = self.text(name)
        if value is None:
            return default
        if not _INTEGER.fullmatch(value) or not least <= int(value) <= most:
            raise SettingsError(f"{name} must be a whole number from {least} to {most}; the default is {default}.")
        return int(value)

    def seconds(self, name: str, default: float, *, zero: bool = False) -> float:
        value = self.text(name)
        if value is None:
            return default
        if not _SECONDS.fullmatch(value) or (float(value) == 0 and not zero):
            wanted = "a number of seconds, 0 or more" if zero else "a number of seconds above 0"
            raise SettingsError(f"{name} must be {wanted}, such as 5 or 0.5; the default is {default:g}.")
        return float(value)

    def host(self, name: str, default: str) -> str:
        value = self.text(name) or default
        if not is_host(value):
            raise SettingsError(
                f"{name} must be an IP address or a host name, without a port; the default is {default}."
            )
        return value

    def web_url(self, name: str, default: str) -> str:
        value = (self.text(name) or default).rstrip("/")
        parts = _split(value)
        if parts is None or parts.scheme not in ("http", "https") or parts.username is not None:
            raise SettingsError(
                f"{name} must be an http:// or https:// URL without user or password, such as {default}."
            )
        if "?" in value or "#" in value:
            raise SettingsError(f"{name} must have no query and no fragment, such as {default}.")
        return value

    def proxy_for(self, url: str) -> str | None:
        """The proxy on the way to `url`, as the usual variables name it (in lower case, too). None for http://."""
        target = urlsplit(url)
        value = self.text("HTTPS_PROXY") or self.text("https_proxy")
        if value is None or target.scheme != "https":
            return None
        host = target.hostname or ""
        for item in (self.text("NO_PROXY") or self.text("no_proxy") or "").lower().split(","):
            suffix = item.strip().partition(":")[0].lstrip("*.")
            if item.strip() == "*" or (suffix and (host == suffix or host.endswith(f".{suffix}"))):
                return None
        parts = _split(value)
        if parts is None or parts.scheme != "http":
            raise SettingsError(
                "HTTPS_PROXY must be the http:// URL of a proxy, such as http://user:password@proxy:3128."
            )
        return value

    def origin(self, name: str, default: str, *, secure: bool) -> str:
        """An origin as a browser writes it: lower case, no default port, no path (RFC 6454 §6.1)."""
        parts = urlsplit(self.web_url(name, default))
        if parts.path:
            raise SettingsError(
                f"{name} must be an origin alone, scheme://host[:port] with no path, such as {default}."
            )
        host = parts.hostname or ""
        if secure and parts.scheme != "https" and not _is_loopback(host):
            raise SettingsError(f"{name} must start with https:// when WATTFARE_ENV is production.")
        shown = f"[{host}]" if ":" in host else host
        standard = {"http": 80, "https": 443}[parts.scheme]
        return f"{parts.scheme}://{shown}" + ("" if parts.port in (None, standard) else f":{parts.port}")

    def redis_url(self, *, required: bool) -> str | None:
        value = self.text("REDIS_URL")
        if value is None:
            if required:
                raise SettingsError(f"REDIS_URL is missing; production needs a Redis of its own: {redis_url.FORMS}.")
            return None
        try:
            redis_url.parse(value).tls()
        except (ValueError, OSError):
            raise SettingsError(f"REDIS_URL is malformed; write {redis_url.FORMS}.") from None
        return value

    def redis_ca_file(self, url: str | None) -> Path | None:
        value = self._for_tls("WATTFARE_REDIS_CA_FILE", url)
        if value is None:
            return None
        path = Path(value).expanduser().absolute()
        try:
            ssl.create_default_context(cafile=path)
        except OSError:
            raise SettingsError("WATTFARE_REDIS_CA_FILE is no file of certificates; name a PEM file.") from None
        return path

    def redis_self_signed(self, url: str | None) -> bool:
        name = "WATTFARE_REDIS_SELF_SIGNED"
        is_on = self.choice(name, "off", ("on", "off")) == "on"
        if is_on and self._for_tls(name, url) and self.text("WATTFARE_REDIS_CA_FILE"):
            raise SettingsError(f"{name} trusts any certificate; leave it or WATTFARE_REDIS_CA_FILE out.")
        return is_on

    def _for_tls(self, name: str, url: str | None) -> str | None:
        value = self.text(name)
        if value is not None and (url is None or not redis_url.parse(url).is_tls):
            raise SettingsError(f"{name} is for a Redis behind TLS; write rediss:// in REDIS_URL, or leave it out.")
        return value

    def key_ring(self, name: str, *, required: bool) -> KeyRing | None:
        value = self.text(name)
        if value is None and required:
            raise SettingsError(
                f"{name} is missing; production needs kid:base64(32 random bytes)[,kid:…], newest first."
            )
        return None if value is None else _parse_ring(name, value)


def _parse_ring(name: str, value: str) -> KeyRing:
    keys: list[tuple[str, bytes]] = []
    for place, item in enumerate(value.split(","), 1):
        kid, colon, encoded = item.strip().partition(":")
        if not colon or not _KID.fullmatch(kid):
            raise SettingsError(
                f"{name} is malformed at key {place}; write kid:base64, the kid 1-32 of A-Z a-z 0-9 _ -."
            )
        key = _decode_key(encoded)
        if key is None:
            raise SettingsError(
                f"{name} is malformed at key {place}; after the colon comes base64 of exactly {KEY_BYTES} bytes."
            )
        if any(kid == other for other, _ in keys):
            raise SettingsError(f"{name} holds the same kid twice, at key {place}; give each key an id of its own.")
        keys.append((kid, key))
    return KeyRing(tuple(keys))


def _decode_key(encoded: str) -> bytes | None:
    """Standard or url-safe base64, with or without padding."""
    plain = encoded.translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        key = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == KEY_BYTES else None


def _key_rings(source: _Environment, data_dir: Path, *, required: bool) -> tuple[KeyRing, KeyRing]:
    """Return the master ring and the token ring; what development leaves out comes from the file beside the data."""
    master = source.key_ring("WATTFARE_MASTER_KEYS", required=required)
    jwt = source.key_ring("WATTFARE_JWT_KEYS", required=required)
    if master is not None and jwt is not None:
        return master, jwt
    kept_master, kept_jwt = _development_keys(data_dir)
    return master or kept_master, jwt or kept_jwt


def _development_keys(data_dir: Path) -> tuple[KeyRing, KeyRing]:
    """Return the rings in `data_dir/keys.json`, which the first process makes. Raises SettingsError."""
    path = data_dir / "keys.json"
    try:
        if not path.exists():
            _make_keys(path)
        kept = json.loads(path.read_bytes())
        return _parse_ring("WATTFARE_MASTER_KEYS", kept["master"]), _parse_ring("WATTFARE_JWT_KEYS", kept["jwt"])
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SettingsError(
            f"WATTFARE_DATA_DIR cannot keep the development keys ({reason}); name a folder to write to."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SettingsError(
            "WATTFARE_DATA_DIR has a damaged keys.json; restore it, or delete the folder to start anew without data."
        ) from None


def _make_keys(path: Path) -> None:
    """Write new keys to a draft and link it into place: the first of several processes wins, none reads half a file."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = {name: f"dev:{base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}" for name in ("master", "jwt")}
    # mkstemp makes the file with mode 600.
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix="keys-")
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(made, file)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        Path(draft).unlink()


def _split(url: str) -> SplitResult | None:
    """Return the parts of a URL that has a host and, if any, a valid port; else None."""
    if re.search(r"[\s\x00-\x1f\x7f\\]", url):
        return None
    try:
        parts = urlsplit(url)
        valid_port = parts.port != 0
    except ValueError:
        return None
    return parts if valid_port and parts.hostname and is_host(parts.hostname) else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
