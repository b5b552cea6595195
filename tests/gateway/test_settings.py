"""Settings: every variable has a good, a bad and a missing value, and no message or repr repeats a secret."""

import base64
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.settings import KeyRing, Settings, SettingsError
from tests.tls import Certificate

ROOT = Path(__file__).parents[2]
OLD, NEW = b"o" * 32, b"n" * 32


def ring_text(**keys: bytes) -> str:
    return ",".join(f"{kid}:{base64.b64encode(key).decode()}" for kid, key in keys.items())


RINGS = {"WATTFARE_MASTER_KEYS": ring_text(m1=OLD), "WATTFARE_JWT_KEYS": ring_text(j1=OLD)}
PRODUCTION = {**RINGS, "WATTFARE_ENV": "production", "REDIS_URL": "redis://10.1.2.3:6379/0"}


def load(**variables: str) -> Settings:
    return Settings.load({**RINGS, **variables})


def refusal(environ: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.load(environ)
    message = str(caught.value)
    assert "\n" not in message
    return message


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


def test_the_processs_own_environment_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a mapping it is os.environ that counts."""
    monkeypatch.setenv("WATTFARE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PORT", "9001")
    assert Settings.load().port == 9001


def test_each_service_has_its_own_default_port() -> None:
    """The consent site asks for 8081; PORT overrides it."""
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
        ("WATTFARE_SWEEPER", "off", "sweeper", False),
        ("WATTFARE_RECONCILE_SECONDS", "10", "reconcile_seconds", 10),
        ("WATTFARE_REDIS_DEADLINE_MS", "50", "redis_deadline_ms", 50),
        ("WATTFARE_UPSTREAM_CONNECT_SECONDS", "1", "upstream_connect_seconds", 1),
        ("WATTFARE_UPSTREAM_FIRST_BYTE_SECONDS", "2", "upstream_first_byte_seconds", 2),
        ("WATTFARE_UPSTREAM_SILENCE_SECONDS", "3", "upstream_silence_seconds", 3),
        ("WATTFARE_CALLER_SILENCE_SECONDS", "4", "caller_silence_seconds", 4),
        ("WATTFARE_MAX_BODY_MB", "10", "max_body_mb", 10),
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
        ("WATTFARE_DRAIN_SECONDS", "soon"),
        ("WATTFARE_DRAIN_SECONDS", "-1"),
        ("WATTFARE_DRAIN_SECONDS", "inf"),
        ("WATTFARE_DRAIN_SECONDS", "1e3"),
        ("WATTFARE_DATA_DIR", "a\0b"),
        ("WATTFARE_STATE_FILE", "a\0b"),
        ("WATTFARE_LOG_LEVEL", "loud"),
        ("WATTFARE_LEDGER_DAYS", "30"),
        ("WATTFARE_HOLD_SECONDS", "0"),
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


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://:p%40ss@10.0.0.1:6380/3",
        "rediss://user:pass@redis.example:6379/0?ssl_cert_reqs=required",
        "redis+cluster://127.0.0.1:7000",
        "redis+cluster://:pass@node.example:7000/",
        "redis+cluster://h:1,h:2",
        "redis+sentinel://127.0.0.1:26379/main",
        "redis+sentinel://:pass@s1:26379,s2:26379,[::1]:26379/main",
        "unix:///run/redis.sock",
        "unix://:pass@/run/redis.sock?db=2",
    ],
)
def test_each_form_of_redis_url_is_taken(url: str) -> None:
    """One server, TLS, Cluster, Sentinel, unix socket."""
    assert load(REDIS_URL=url).redis_url == url


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "http://hunter2@localhost:6379",
        "redis://",
        "redis://:hunter2@",
        "redis://localhost:hunter2",
        "redis://localhost/zero",
        "redis://:hun#ter2@localhost",
        "rediss://:hunter2@localhost?ssl_ca_certs=/nowhere",
        "redis+cluster://127.0.0.1",
        "redis+cluster://127.0.0.1:7000/1",
        "redis+sentinel://127.0.0.1:26379",
        "redis+sentinel://127.0.0.1/main",
        "redis+sentinel://127.0.0.1:26379,/main",
        "unix://",
        "unix://?db=1",
    ],
)
def test_a_malformed_redis_url_is_refused_without_repeating_it(url: str) -> None:
    """It may hold a password."""
    message = refusal({**RINGS, "REDIS_URL": url})
    assert message.startswith("REDIS_URL ")
    assert "hunter2" not in message


def test_a_redis_behind_tls_is_trusted_as_told(tmp_path: Path) -> None:
    """By a CA's file, or without a look; each is for TLS alone, and not both at once."""
    authority, broken = tmp_path / "ca.pem", tmp_path / "broken.pem"
    authority.write_text(Certificate.make().pem)
    broken.write_text("no certificate")
    tls = {**RINGS, "REDIS_URL": "rediss://redis.example"}
    trusting = load(**tls, WATTFARE_REDIS_CA_FILE=str(authority))
    assert (trusting.redis_ca_file, trusting.redis_self_signed) == (authority, False)
    assert load(**tls, WATTFARE_REDIS_SELF_SIGNED="on").redis_self_signed
    for name, value in (("WATTFARE_REDIS_CA_FILE", str(authority)), ("WATTFARE_REDIS_SELF_SIGNED", "on")):
        assert refusal({**RINGS, name: value}).startswith(f"{name} ")
        assert refusal({**RINGS, "REDIS_URL": "redis://h", name: value}).startswith(f"{name} ")
    assert refusal({**tls, "WATTFARE_REDIS_SELF_SIGNED": "perhaps"}).startswith("WATTFARE_REDIS_SELF_SIGNED ")
    for path in (broken, tmp_path / "absent"):
        assert refusal({**tls, "WATTFARE_REDIS_CA_FILE": str(path)}).startswith("WATTFARE_REDIS_CA_FILE ")
    both = {"WATTFARE_REDIS_CA_FILE": str(authority), "WATTFARE_REDIS_SELF_SIGNED": "on"}
    assert refusal({**tls, **both}).startswith("WATTFARE_REDIS_SELF_SIGNED ")


@pytest.mark.parametrize("name", ["REDIS_URL", "WATTFARE_MASTER_KEYS", "WATTFARE_JWT_KEYS"])
def test_production_needs_its_store_and_its_keys(name: str) -> None:
    """What development makes up must be given in production."""
    assert Settings.load(PRODUCTION).production
    assert refusal({**PRODUCTION, name: ""}).startswith(f"{name} is missing")


@pytest.mark.parametrize("name", ["WATTFARE_PUBLIC_URL", "WATTFARE_CONSENT_URL"])
def test_production_origins_are_https_or_loopback(name: str) -> None:
    """Cookies marked `__Host-` and session tokens need TLS; a loopback address is as good to a browser."""
    assert refusal({**PRODUCTION, name: "http://pay.example"}).startswith(f"{name} ")
    for origin in ("https://pay.example", "http://127.0.0.1:9", "http://localhost:9"):
        Settings.load({**PRODUCTION, name: origin})


@pytest.mark.parametrize("name", ["WATTFARE_MASTER_KEYS", "WATTFARE_JWT_KEYS"])
@pytest.mark.parametrize(
    "value",
    [
        "hunter2",
        f":{base64.b64encode(NEW).decode()}",
        f"k 1:{base64.b64encode(NEW).decode()}",
        "k1:",
        "k1:hunter2!",
        f"k1:{base64.b64encode(b'n' * 31).decode()}",
        f"k1:{base64.b64encode(b'n' * 33).decode()}",
        f"{ring_text(k1=NEW)},",
        f"{ring_text(k1=NEW)},{ring_text(k1=OLD)}",
    ],
)
def test_a_malformed_key_ring_is_refused_without_repeating_it(name: str, value: str) -> None:
    """The line names variable and place, never key material."""
    message = refusal({**RINGS, name: value})
    assert message.startswith(f"{name} ")
    assert "hunter2" not in message
    assert base64.b64encode(NEW).decode()[:8] not in message


def test_the_first_key_of_a_ring_is_the_newest() -> None:
    """New things are made with the first key, old ones found by their id."""
    ring = load(WATTFARE_JWT_KEYS=ring_text(j2=NEW, j1=OLD)).jwt_keys
    assert ring.newest == ("j2", NEW)
    assert ring.find("j1") == OLD
    assert ring.find("j3") is None


@pytest.mark.parametrize("key", [NEW, b"\xff\xfe" * 16])
def test_keys_may_be_url_safe_and_unpadded(key: bytes) -> None:
    """Whatever base64 the operator's tool wrote."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for text in (encode(key).decode(), encode(key).decode().rstrip("=")):
            assert load(WATTFARE_MASTER_KEYS=f"k:{text}").master_keys.newest == ("k", key)


def test_no_repr_shows_a_secret() -> None:
    """Settings may end in a traceback or a log."""
    ring = KeyRing((("k1", NEW),))
    assert repr(ring) == "KeyRing(k1)"
    shown = repr(load(REDIS_URL="redis://:hunter2@localhost", WATTFARE_JWT_KEYS=ring_text(k1=NEW)))
    assert "hunter2" not in shown
    assert repr(NEW) not in shown
    assert "nnnn" not in shown


def test_development_keys_are_made_once_and_kept_private(tmp_path: Path) -> None:
    """They lie beside the data with mode 600 and stay the same, also with a REDIS_URL; each ring has its own key."""
    folder = tmp_path / "new" / "data"
    first = Settings.load({"WATTFARE_DATA_DIR": str(folder)})
    again = Settings.load({"WATTFARE_DATA_DIR": str(folder), "REDIS_URL": "redis://localhost"})
    assert (first.master_keys, first.jwt_keys) == (again.master_keys, again.jwt_keys)
    assert first.master_keys.newest[1] != first.jwt_keys.newest[1]
    assert stat.S_IMODE((folder / "keys.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(folder.iterdir()) == [folder / "keys.json"]


def test_a_given_ring_stands_beside_a_made_one(tmp_path: Path) -> None:
    """Only what is left out is made."""
    settings = Settings.load({"WATTFARE_DATA_DIR": str(tmp_path), "WATTFARE_JWT_KEYS": ring_text(j1=OLD)})
    assert settings.jwt_keys.newest == ("j1", OLD)
    assert settings.master_keys.newest[0] == "dev"


def test_given_rings_leave_the_disk_alone(tmp_path: Path) -> None:
    """Nothing is written when nothing has to be made."""
    Settings.load({**RINGS, "WATTFARE_DATA_DIR": str(tmp_path / "data")})
    assert not (tmp_path / "data").exists()


def test_processes_that_start_together_get_the_same_keys(tmp_path: Path) -> None:
    """The first one's keys win, and no one reads half a file."""
    code = (
        "import sys; from gateway.settings import Settings; s = Settings.load({'WATTFARE_DATA_DIR': sys.argv[1]});"
        "print(s.master_keys.newest[1].hex(), s.jwt_keys.newest[1].hex())"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
        for _ in range(6)
    ]
    assert len({process.communicate()[0] for process in processes}) == 1
    assert all(process.returncode == 0 for process in processes)


@pytest.mark.parametrize("kept", ["", "{}", "[]", '{"master": 1, "jwt": 2}', json.dumps({"master": "x", "jwt": "y"})])
def test_damaged_development_keys_are_told_not_replaced(tmp_path: Path, kept: str) -> None:
    """New keys would make everything sealed unreadable, so the person decides."""
    (tmp_path / "keys.json").write_text(kept)
    assert refusal({"WATTFARE_DATA_DIR": str(tmp_path)}).startswith("WATTFARE_DATA_DIR ")
    assert (tmp_path / "keys.json").read_text() == kept


def test_a_data_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """The line names the variable that moves it."""
    (tmp_path / "file").touch()
    assert refusal({"WATTFARE_DATA_DIR": str(tmp_path / "file" / "data")}).startswith("WATTFARE_DATA_DIR ")


def test_a_consent_site_on_another_port_knows_its_own_address(tmp_path: Path) -> None:
    """Pages post to the origin they came from: a moved port alone must not make the site refuse its own pages."""
    moved = {"PORT": "9001", "WATTFARE_DATA_DIR": str(tmp_path)}

    assert Settings.load(moved, default_port=8081).consent_url == "http://127.0.0.1:9001"
    assert Settings.load(moved, default_port=8080).consent_url == "http://127.0.0.1:8081"
    assert Settings.load({**moved, "WATTFARE_CONSENT_URL": "https://pay.example"}, default_port=8081).consent_url == (
        "https://pay.example"
    )


@pytest.mark.parametrize(
    ("no_proxy", "is_used"),
    [("", True), ("ai", False), ("openrouter.ai", False), (".openrouter.ai", False), ("a.test, *.ai:443", False),
     ("*", False), ("router.ai", True), ("x.openrouter.ai", True), (",", True)],
)  # fmt: skip
def test_a_proxy_stands_before_openrouter_unless_its_host_is_listed(no_proxy: str, is_used: bool) -> None:
    """HTTPS_PROXY is for https:// alone, so that the sandbox is reached as it is; NO_PROXY lists ends of host names."""
    proxy = "http://us:pass@proxy.example:3128"
    for name, no in (("HTTPS_PROXY", "NO_PROXY"), ("https_proxy", "no_proxy")):
        assert load(**{name: proxy, no: no_proxy}).upstream_proxy == (proxy if is_used else None)
    assert load(HTTPS_PROXY=proxy, OPENROUTER_BASE_URL="http://127.0.0.1:8082").upstream_proxy is None
    assert load().upstream_proxy is None
    assert "pass" not in repr(load(HTTPS_PROXY=proxy))


@pytest.mark.parametrize(
    "value", ["proxy.example:3128", "socks5://proxy.example", "https://proxy.example", "http://:3128"]
)
def test_a_proxy_that_is_none_is_refused(value: str) -> None:
    """One line that names the variable, and never the value, which may hold a password."""
    message = refusal({**RINGS, "HTTPS_PROXY": value})
    assert "HTTPS_PROXY" in message
    assert value not in message
