"""Key rings: their form, their order, and the keys that development makes once."""

import base64
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.settings import Settings
from tests.gateway.environments import NEW, OLD, RINGS, load, refusal, ring_text

ROOT = Path(__file__).parents[2]


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
    ring = load(WATTFARE_JWT_KEYS=ring_text(j2=NEW, j1=b"1" * 32)).jwt_keys
    assert ring.newest == ("j2", NEW)
    assert ring.find("j1") == b"1" * 32
    assert ring.find("j3") is None


@pytest.mark.parametrize("key", [NEW, b"\xff\xfe" * 16])
def test_keys_may_be_url_safe_and_unpadded(key: bytes) -> None:
    """Whatever base64 the operator's tool wrote."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for text in (encode(key).decode(), encode(key).decode().rstrip("=")):
            assert load(WATTFARE_MASTER_KEYS=f"k:{text}").master_keys.newest == ("k", key)


def test_no_key_serves_two_purposes() -> None:
    """A shared key would let a token signer open funding keys; every key of a ring is compared."""
    both = {"WATTFARE_MASTER_KEYS": ring_text(m2=NEW, m1=OLD), "WATTFARE_JWT_KEYS": ring_text(j1=OLD)}
    assert refusal(both).startswith("WATTFARE_JWT_KEYS shares a key with WATTFARE_MASTER_KEYS")


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
