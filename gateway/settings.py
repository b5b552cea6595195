"""The settings, read from the environment at start and validated; the gateway's only reader of `os.environ`.

Rule: a missing or malformed value raises one line that names the variable and says what to do. The line never repeats
the value, which may be a key.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from gateway.environment import Environment, SettingsError, with_file
from gateway.key_rings import KeyRing, read_key_rings
from gateway.money import NANO_PER_USD, nano_from_usd

MIN_LEDGER_DAYS: Final = 31  # the rolling month is 30 UTC days; verify needs all of it
MAX_LEDGER_DAYS: Final = 36_500  # a hundred years: more is a typing error
MAX_WORKERS: Final = 256  # more processes than any host has cores
MAX_CAP_USD: Final = 1000  # a higher monthly cap for one app is probably a typing error
MAX_BODY_MB: Final = 1024  # a body is held in memory, several times over while it is parsed
MAX_GRANT_REQUESTS: Final = 10_000  # for more an app should request a connection
MAX_GRANT_USD: Final = 1000  # as much as one connection may spend in a month
MAX_GRANT_SECONDS: Final = 86_400  # CONTRACT §4: at most 24 hours
MAX_WATCHDOG_USEC: Final = 999_999_999  # a quarter of an hour
_BILLION: Final = 999_999_999  # effectively no limit
USUAL_OPEN: Final = 10_000  # of one budget: more streams than any person uses
USUAL_RATE: Final = 60_000  # of one budget: a thousand a second is far above honest use
USUAL_APP_RATE: Final = 600_000  # of one app: ten times the peak of a million payers with twenty requests a day
CONSENT_PORT: Final = 8081  # where the consent site listens by default

_OPERATOR_CHARS = 60  # fits on one line of the popup
_LOG_LEVELS = ("debug", "info", "warning", "error")
_LOG_FORMATS = ("auto", "json", "text")


@dataclass(frozen=True, slots=True)
class Operator:
    """The operator as shown on every payer's page: a name, and URLs of terms, privacy and help (or None)."""

    name: str
    terms_url: str | None = None
    privacy_url: str | None = None
    support_url: str | None = None

    @property
    def has_links(self) -> bool:
        """Whether there is any URL."""
        return any((self.terms_url, self.privacy_url, self.support_url))

    @classmethod
    def read(cls, source: Environment, name: str) -> "Operator":
        """Return the operator by the environment; the default name is `name`. Raises SettingsError."""
        links = (source.link(f"WATTFARE_OPERATOR_{each}_URL") for each in ("TERMS", "PRIVACY", "SUPPORT"))
        return cls(source.line("WATTFARE_OPERATOR_NAME", name, most=_OPERATOR_CHARS), *links)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantSettings:
    """Limits of one-time grants.

    At most `requests` requests; a total of at most `total_nano` if the app names one, else `request_nano` for each
    request; valid for `seconds`.
    """

    requests: int
    total_nano: int
    request_nano: int
    seconds: int

    @classmethod
    def load(cls, source: Environment) -> "GrantSettings":
        """Return the limits of grants by the environment. Raises SettingsError."""
        return cls(
            requests=source.integer("WATTFARE_GRANT_MAX_REQUESTS", 100, least=1, most=MAX_GRANT_REQUESTS),
            total_nano=nano_from_usd(source.usd("WATTFARE_GRANT_MAX_USD", 100, most=MAX_GRANT_USD)),
            request_nano=nano_from_usd(source.usd("WATTFARE_GRANT_REQUEST_USD", 1, most=MAX_GRANT_USD)),
            seconds=source.integer("WATTFARE_GRANT_SECONDS", 3600, least=1, most=MAX_GRANT_SECONDS),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """Limits of request rates: a budget's requests `open_at_once` and `a_minute`, and an app's calls `app_a_minute`.

    The last counts the calls by an app's secret keys, separately for each mode.
    """

    open_at_once: int
    a_minute: int
    app_a_minute: int

    @classmethod
    def load(cls, source: Environment) -> "LimitSettings":
        """Return the limits of rates by the environment. Raises SettingsError."""
        return cls(
            open_at_once=source.integer("WATTFARE_OPEN_REQUESTS", USUAL_OPEN, least=1, most=_BILLION),
            a_minute=source.integer("WATTFARE_REQUESTS_A_MINUTE", USUAL_RATE, least=1, most=_BILLION),
            app_a_minute=source.integer("WATTFARE_APP_REQUESTS_A_MINUTE", USUAL_APP_RATE, least=1, most=_BILLION),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """How long an app may take to answer a webhook, and whether webhooks may go to this machine (development only)."""

    seconds: float
    loopback: bool

    @classmethod
    def load(cls, source: Environment, *, production: bool) -> "WebhookSettings":
        """Return what the environment says of webhooks. Raises SettingsError."""
        name = "WATTFARE_WEBHOOK_LOOPBACK"
        loopback = source.choice(name, "off", ("on", "off")) == "on"
        if loopback and production:
            raise SettingsError(f"{name} lets apps reach what listens on this host alone; leave it out in production.")
        return cls(seconds=source.seconds("WATTFARE_WEBHOOK_SECONDS", 15), loopback=loopback)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a process. The repr shows no secret."""

    production: bool
    redis_url: str | None = field(repr=False)
    """None: the embedded server in `data_dir`, development only."""
    redis_ca_file: Path | None
    """The CA file for a Redis behind TLS. None: the system's CAs."""
    redis_self_signed: bool
    """Encrypt without verifying Redis's certificate."""
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
    """0: no metrics."""
    drain_seconds: float
    notify_socket: str | None
    """systemd's socket (NOTIFY_SOCKET)."""
    watchdog_seconds: float
    """How long systemd waits for a WATCHDOG=1 message (WATCHDOG_USEC); 0: no watchdog."""
    data_dir: Path
    """Absolute. Holds the embedded server and the development keys."""
    state_file: Path | None
    """The file that keeps the known epochs of Redis over a restart; None: not kept."""
    log_level: str
    log_format: str
    """`json`, `text`, or `auto`: text in a terminal."""
    otel: Mapping[str, str] = field(repr=False)
    """OpenTelemetry's own variables (OTEL_…): where traces go, and the keys of who takes them."""
    demo_url: str | None
    """The demo app's URL, linked from the page at `/`; `make run` sets it."""
    ledger_days: int
    """How many UTC days ledger entries and closed holds are kept."""
    holds: str
    """`expected`: one request of a budget at a time may be open beyond its bound; `bound`: none (CONTRACT §3)."""
    admission_wait_seconds: float
    """How long a request waits for others in flight to release money; 0: not at all."""
    hold_seconds: float
    """The lease of a hold, after which the sweeper considers it overdue."""
    sweeper: bool
    """Whether gateway processes sweep; False when a separate sweeper process does."""
    reconcile_seconds: float
    """How long the sweeper asks OpenRouter for a cost before it settles at the estimate."""
    redis_deadline_ms: int
    """How long Redis may be silent while commands are unanswered before it counts as away."""
    upstream_connect_seconds: float
    upstream_first_byte_seconds: float
    upstream_silence_seconds: float
    """How long OpenRouter may send nothing within an answer."""
    upstream_keepalive_seconds: float
    """How long OpenRouter may send nothing but SSE comments."""
    caller_silence_seconds: float
    """How long a caller may read nothing of an answer, or stall the sending of its body."""
    limits: LimitSettings
    webhooks: WebhookSettings
    max_body_mb: int
    """How large the body of a metered call may be, in MB of 1,048,576 bytes."""
    operator: Operator
    default_cap_nano: int
    """The monthly cap, in nano-USD, that the popup proposes; also the highest app's suggestion that it preselects."""
    grants: GrantSettings

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, *, default_port: int = 8080) -> "Settings":
        """Return the settings of `environ` (default: the process's own). Raises SettingsError.

        In development, missing key rings are created once, in `data_dir/keys.json`.
        """
        source = Environment(with_file(os.environ if environ is None else environ))
        production = source.choice("WATTFARE_ENV", "development", ("development", "production")) == "production"
        data_dir = Path(source.text("WATTFARE_DATA_DIR") or ".wattfare").expanduser().absolute()
        state_file = source.text("WATTFARE_STATE_FILE")
        url = source.redis_url(required=production)
        master_keys, jwt_keys = read_key_rings(source, data_dir, required=production)
        host = source.host("HOST", "127.0.0.1")
        port = source.integer("PORT", default_port, least=0, most=65535)
        # If only the consent site's PORT was changed, its default origin has that port.
        is_consent_site = default_port == CONSENT_PORT and host == "127.0.0.1" and port != 0
        public_url, consent_url = _origins(source, port if is_consent_site else CONSENT_PORT, production=production)
        openrouter_base_url = source.openrouter_url("OPENROUTER_BASE_URL")
        return cls(
            production=production,
            openrouter_base_url=openrouter_base_url,
            upstream_proxy=source.proxy_for(openrouter_base_url),
            redis_url=url,
            redis_ca_file=source.redis_ca_file(url),
            redis_self_signed=source.redis_self_signed(url),
            master_keys=master_keys,
            jwt_keys=jwt_keys,
            public_url=public_url,
            consent_url=consent_url,
            host=host,
            port=port,
            workers=source.integer("WEB_CONCURRENCY", 1, least=1, most=MAX_WORKERS),
            metrics_port=source.integer("WATTFARE_METRICS_PORT", 0, least=0, most=65_535),
            drain_seconds=source.seconds("WATTFARE_DRAIN_SECONDS", 25, zero=True),
            notify_socket=source.text("NOTIFY_SOCKET"),
            watchdog_seconds=source.integer("WATCHDOG_USEC", 0, least=0, most=MAX_WATCHDOG_USEC) / 1_000_000,
            data_dir=data_dir,
            state_file=Path(state_file).expanduser().absolute() if state_file else None,
            log_level=source.choice("WATTFARE_LOG_LEVEL", "info", _LOG_LEVELS),
            log_format=source.choice("WATTFARE_LOG_FORMAT", "auto", _LOG_FORMATS),
            otel=source.starting("OTEL_"),
            demo_url=source.optional_url("WATTFARE_DEMO_URL"),
            ledger_days=source.integer("WATTFARE_LEDGER_DAYS", 90, least=MIN_LEDGER_DAYS, most=MAX_LEDGER_DAYS),
            holds=source.choice("WATTFARE_HOLDS", "expected", ("expected", "bound")),
            admission_wait_seconds=source.seconds("WATTFARE_ADMISSION_WAIT_SECONDS", 20, zero=True),
            hold_seconds=source.seconds("WATTFARE_HOLD_SECONDS", 60),
            sweeper=source.choice("WATTFARE_SWEEPER", "on", ("on", "off")) == "on",
            reconcile_seconds=source.seconds("WATTFARE_RECONCILE_SECONDS", 300),
            redis_deadline_ms=source.integer("WATTFARE_REDIS_DEADLINE_MS", 75, least=1, most=60_000),
            upstream_connect_seconds=source.seconds("WATTFARE_UPSTREAM_CONNECT_SECONDS", 10),
            upstream_first_byte_seconds=source.seconds("WATTFARE_UPSTREAM_FIRST_BYTE_SECONDS", 300),
            upstream_silence_seconds=source.seconds("WATTFARE_UPSTREAM_SILENCE_SECONDS", 120),
            upstream_keepalive_seconds=source.seconds("WATTFARE_UPSTREAM_KEEPALIVE_SECONDS", 1800),
            caller_silence_seconds=source.seconds("WATTFARE_CALLER_SILENCE_SECONDS", 120),
            limits=LimitSettings.load(source),
            webhooks=WebhookSettings.load(source, production=production),
            max_body_mb=source.integer("WATTFARE_MAX_BODY_MB", 32, least=1, most=MAX_BODY_MB),
            operator=Operator.read(source, "this machine" if not production else consent_url.partition("://")[2]),
            default_cap_nano=NANO_PER_USD * source.integer("WATTFARE_DEFAULT_CAP_USD", 10, least=1, most=MAX_CAP_USD),
            grants=GrantSettings.load(source),
        )

    @property
    def reserved_names(self) -> tuple[str, str]:
        """Names that no app may carry: the operator's, and the consent site's host."""
        return self.operator.name, self.consent_url.partition("://")[2]

    def with_redis_deadline(self, redis_deadline_ms: int) -> "Settings":
        """Return these settings with another Redis deadline, for operator's commands."""
        return replace(self, redis_deadline_ms=redis_deadline_ms)


def _origins(source: Environment, consent_port: int, *, production: bool) -> tuple[str, str]:
    """Return the origins of the gateway and of the consent site. Raises SettingsError when they are one."""
    public_url = source.origin("WATTFARE_PUBLIC_URL", "http://127.0.0.1:8080", production=production)
    consent_url = source.origin("WATTFARE_CONSENT_URL", f"http://127.0.0.1:{consent_port}", production=production)
    if public_url == consent_url:
        # On a shared origin, a page served by the API could read and frame the payer's pages.
        raise SettingsError("WATTFARE_CONSENT_URL is the origin of WATTFARE_PUBLIC_URL; give each its own.")
    return public_url, consent_url
