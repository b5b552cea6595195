"""Settings: every variable has a good, a bad and a missing value, and no message or repr repeats a secret."""

from pathlib import Path

import pytest

from gateway.key_rings import KeyRing
from gateway.money import NANO_PER_USD
from gateway.settings import Operator, Settings
from tests.gateway.environments import NEW, PRODUCTION, RINGS, load, refusal, ring_text


def test_an_empty_environment_is_development_with_the_contracts_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has to be set for development."""
    monkeypatch.chdir(tmp_path)
    settings = Settings.load({})
    assert not settings.production
    assert settings.redis_url is None
    assert settings.openrouter_base_url == "https://openrouter.ai"
    assert (settings.public_url, settings.consent_url) == ("http://127.0.0.1:8080", "http://127.0.0.1:8081")
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8080, 1)
    assert settings.drain_seconds == 25
    assert settings.data_dir == tmp_path / ".wattfare"
    assert settings.state_file is None
    assert (settings.log_level, settings.ledger_days, settings.hold_seconds) == ("info", 90, 60)
    assert (settings.sweeper, settings.reconcile_seconds, settings.redis_deadline_ms) == (True, 300, 75)
    assert settings.upstream_connect_seconds == 10
    assert settings.upstream_first_byte_seconds == 300
    assert (settings.upstream_silence_seconds, settings.caller_silence_seconds) == (120, 120)
    assert settings.max_body_mb == 32
    bounds = settings.grants
    assert (bounds.requests, bounds.seconds) == (100, 3600)
    assert (bounds.total_nano, bounds.request_nano) == (100 * NANO_PER_USD, NANO_PER_USD)
    assert settings.operator == Operator("this machine")
    assert settings.default_cap_nano == 10_000_000_000


def test_the_operator_is_named_with_terms_privacy_and_help() -> None:
    """By the whole names, or by the short ones; in production without a name it is the consent site's host."""
    links = {
        "TERMS": "https://acme.example/terms?v=2",
        "PRIVACY": "https://acme.example/p",
        "SUPPORT": "mailto:a@b.example",
    }
    told = Operator("Acme Inc", *links.values())
    for prefix in ("WATTFARE_OPERATOR_", "WATTFARE_"):
        named = {f"{prefix}{name}_URL": url for name, url in links.items()}
        assert load(WATTFARE_OPERATOR_NAME="Acme Inc", **named).operator == told
    assert Settings.load(PRODUCTION).operator == Operator("pay.example")


def test_the_processs_own_environment_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a mapping it is os.environ that counts."""
    monkeypatch.setenv("WATTFARE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PORT", "9001")
    assert Settings.load().port == 9001


def test_each_service_has_its_own_default_port() -> None:
    """The consent site's default is 8081; PORT overrides it."""
    assert Settings.load(RINGS, default_port=8081).port == 8081
    assert Settings.load({**RINGS, "PORT": "9"}, default_port=8081).port == 9


def test_an_empty_value_counts_as_missing() -> None:
    """Compose files pass `NAME=` for what is not set."""
    assert load(PORT="", REDIS_URL=" ", WATTFARE_ENV="").port == 8080


@pytest.mark.parametrize(
    ("name", "value", "attribute", "parsed"),
    [
        ("WATTFARE_ENV", "development", "production", False),
        ("OPENROUTER_BASE_URL", "http://127.0.0.1:8082/", "openrouter_base_url", "http://127.0.0.1:8082"),
        ("OPENROUTER_BASE_URL", "https://proxy.example/or", "openrouter_base_url", "https://proxy.example/or"),
        ("WATTFARE_PUBLIC_URL", "https://API.example:443/", "public_url", "https://api.example"),
        ("WATTFARE_PUBLIC_URL", "http://[::1]:8080", "public_url", "http://[::1]:8080"),
        ("WATTFARE_CONSENT_URL", "https://pay.example:8443", "consent_url", "https://pay.example:8443"),
        ("HOST", "0.0.0.0", "host", "0.0.0.0"),
        ("HOST", "::", "host", "::"),
        ("HOST", "localhost", "host", "localhost"),
        ("PORT", "0", "port", 0),
        ("PORT", "65535", "port", 65535),
        ("WEB_CONCURRENCY", "4", "workers", 4),
        ("WATTFARE_DRAIN_SECONDS", "0", "drain_seconds", 0),
        ("WATTFARE_DRAIN_SECONDS", "2.5", "drain_seconds", 2.5),
        ("WATTFARE_DATA_DIR", "/srv/wattfare", "data_dir", Path("/srv/wattfare")),
        ("WATTFARE_STATE_FILE", "/srv/state", "state_file", Path("/srv/state")),
        ("WATTFARE_LOG_LEVEL", "debug", "log_level", "debug"),
        ("WATTFARE_LEDGER_DAYS", "31", "ledger_days", 31),
        ("WATTFARE_HOLD_SECONDS", "0.5", "hold_seconds", 0.5),
        ("WATTFARE_HOLDS", "bound", "holds", "bound"),
        ("WATTFARE_ADMISSION_WAIT_SECONDS", "0", "admission_wait_seconds", 0),
        ("WATTFARE_SWEEPER", "off", "sweeper", False),
        ("WATTFARE_RECONCILE_SECONDS", "10", "reconcile_seconds", 10),
        ("WATTFARE_REDIS_DEADLINE_MS", "50", "redis_deadline_ms", 50),
        ("WATTFARE_UPSTREAM_CONNECT_SECONDS", "1", "upstream_connect_seconds", 1),
        ("WATTFARE_UPSTREAM_FIRST_BYTE_SECONDS", "2", "upstream_first_byte_seconds", 2),
        ("WATTFARE_UPSTREAM_SILENCE_SECONDS", "3", "upstream_silence_seconds", 3),
        ("WATTFARE_CALLER_SILENCE_SECONDS", "4", "caller_silence_seconds", 4),
        ("WATTFARE_MAX_BODY_MB", "10", "max_body_mb", 10),
        ("WATTFARE_DEFAULT_CAP_USD", "25", "default_cap_nano", 25_000_000_000),
    ],
)
def test_a_good_value_is_taken(name: str, value: str, attribute: str, parsed: object) -> None:
    """Each variable lands in its field, parsed."""
    assert getattr(load(**{name: value}), attribute) == parsed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WATTFARE_ENV", "staging"),
        ("OPENROUTER_BASE_URL", "openrouter.ai"),
        ("OPENROUTER_BASE_URL", "ftp://openrouter.ai"),
        ("OPENROUTER_BASE_URL", "https://user:secret@openrouter.ai"),
        ("OPENROUTER_BASE_URL", "https://openrouter.ai?x=1"),
        ("OPENROUTER_BASE_URL", "https://open router.ai"),
        ("OPENROUTER_BASE_URL", "https://openrouter.ai:99999"),
        ("WATTFARE_PUBLIC_URL", "https://api.example/path"),
        ("WATTFARE_PUBLIC_URL", "api.example"),
        ("WATTFARE_PUBLIC_URL", "null"),
        ("WATTFARE_CONSENT_URL", "https://"),
        ("WATTFARE_CONSENT_URL", "https://pay.example#x"),
        ("HOST", "127.0.0.1:8080"),
        ("HOST", "999.1.1.1"),
        ("HOST", "a b"),
        ("PORT", "http"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "\u0668\u0660"),
        ("WEB_CONCURRENCY", "0"),
        ("WEB_CONCURRENCY", "2.5"),
        ("WATTFARE_MAX_BODY_MB", "0"),
        ("WATTFARE_MAX_BODY_MB", "1025"),
        ("WATTFARE_DEFAULT_CAP_USD", "0"),
        ("WATTFARE_DEFAULT_CAP_USD", "1001"),
        ("WATTFARE_OPERATOR_NAME", "x" * 61),
        ("WATTFARE_OPERATOR_NAME", "a\nb"),
        ("WATTFARE_OPERATOR_TERMS_URL", "javascript:alert(1)"),
        ("WATTFARE_OPERATOR_SUPPORT_URL", "mailto:nobody"),
        ("WATTFARE_GRANT_MAX_REQUESTS", "0"),
        ("WATTFARE_GRANT_MAX_USD", "0"),
        ("WATTFARE_GRANT_MAX_USD", "1001"),
        ("WATTFARE_GRANT_REQUEST_USD", "1e-3"),
        ("WATTFARE_GRANT_REQUEST_USD", "-1"),
        ("WATTFARE_GRANT_SECONDS", "86401"),
        ("WATTFARE_DRAIN_SECONDS", "soon"),
        ("WATTFARE_DRAIN_SECONDS", "-1"),
        ("WATTFARE_DRAIN_SECONDS", "inf"),
        ("WATTFARE_DRAIN_SECONDS", "1e3"),
        ("WATTFARE_DATA_DIR", "a\0b"),
        ("WATTFARE_STATE_FILE", "a\0b"),
        ("WATTFARE_LOG_LEVEL", "loud"),
        ("WATTFARE_LEDGER_DAYS", "30"),
        ("WATTFARE_HOLD_SECONDS", "0"),
        ("WATTFARE_HOLDS", "none"),
        ("WATTFARE_ADMISSION_WAIT_SECONDS", "-1"),
        ("WATTFARE_SWEEPER", "yes"),
        ("WATTFARE_RECONCILE_SECONDS", "0.0"),
        ("WATTFARE_REDIS_DEADLINE_MS", "0"),
        ("WATTFARE_UPSTREAM_CONNECT_SECONDS", "nan"),
        ("WATTFARE_UPSTREAM_FIRST_BYTE_SECONDS", "0"),
        ("WATTFARE_UPSTREAM_SILENCE_SECONDS", "x"),
    ],
)
def test_a_bad_value_is_one_line_that_names_its_variable(name: str, value: str) -> None:
    """The line starts with the variable's name and does not repeat the value."""
    message = refusal({**RINGS, name: value})
    assert message.startswith(f"{name} ")
    assert "secret" not in message


@pytest.mark.parametrize("name", ["REDIS_URL", "WATTFARE_MASTER_KEYS", "WATTFARE_JWT_KEYS"])
def test_production_needs_its_store_and_its_keys(name: str) -> None:
    """What development makes up must be given in production."""
    assert Settings.load(PRODUCTION).production
    assert refusal({**PRODUCTION, name: ""}).startswith(f"{name} is missing")


@pytest.mark.parametrize("name", ["WATTFARE_PUBLIC_URL", "WATTFARE_CONSENT_URL"])
def test_production_needs_two_encrypted_origins(name: str) -> None:
    """`__Host-` cookies and session tokens need TLS, and other machines cannot reach a loopback address."""
    for origin in ("http://pay.example", "http://127.0.0.1:9", ""):
        assert refusal({**PRODUCTION, name: origin}).startswith(f"{name} ")
    same = {"WATTFARE_PUBLIC_URL": "https://one.example", "WATTFARE_CONSENT_URL": "https://ONE.example:443"}
    assert refusal({**PRODUCTION, **same}).startswith("WATTFARE_CONSENT_URL is the origin of WATTFARE_PUBLIC_URL")


def test_webhooks_reach_this_machine_in_development_alone() -> None:
    """What listens on loopback trusts its own host."""
    assert not load().webhooks.loopback
    assert load(WATTFARE_WEBHOOK_LOOPBACK="on").webhooks.loopback
    assert not Settings.load({**PRODUCTION, "WATTFARE_WEBHOOK_LOOPBACK": "off"}).webhooks.loopback
    assert refusal({**PRODUCTION, "WATTFARE_WEBHOOK_LOOPBACK": "on"}).startswith("WATTFARE_WEBHOOK_LOOPBACK ")


def test_no_repr_shows_a_secret() -> None:
    """Settings may end in a traceback or a log."""
    ring = KeyRing((("k1", NEW),))
    assert repr(ring) == "KeyRing(k1)"
    shown = repr(load(REDIS_URL="redis://:hunter2@localhost", WATTFARE_JWT_KEYS=ring_text(k1=NEW)))
    assert "hunter2" not in shown
    assert repr(NEW) not in shown
    assert "nnnn" not in shown


def test_a_consent_site_on_another_port_knows_its_own_address(tmp_path: Path) -> None:
    """Pages post to their own origin: a changed port alone must not make the site refuse them."""
    moved = {"PORT": "9001", "WATTFARE_DATA_DIR": str(tmp_path)}

    assert Settings.load(moved, default_port=8081).consent_url == "http://127.0.0.1:9001"
    assert Settings.load(moved, default_port=8080).consent_url == "http://127.0.0.1:8081"
    assert Settings.load({**moved, "WATTFARE_CONSENT_URL": "https://pay.example"}, default_port=8081).consent_url == (
        "https://pay.example"
    )


@pytest.mark.parametrize(
    ("name", "value", "attribute", "expected"),
    [
        ("WATTFARE_GRANT_MAX_REQUESTS", "7", "requests", 7),
        ("WATTFARE_GRANT_MAX_USD", "2.5", "total_nano", 2_500_000_000),
        ("WATTFARE_GRANT_REQUEST_USD", "0.000000001", "request_nano", 1),
        ("WATTFARE_GRANT_SECONDS", "86400", "seconds", 86_400),
    ],
)
def test_the_bounds_of_grants_can_be_set(name: str, value: str, attribute: str, expected: int) -> None:
    """Amounts are exact."""
    assert getattr(load(**{name: value}).grants, attribute) == expected
