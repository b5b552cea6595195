"""What a deployment is made of: nothing that runs needs more than requirements.txt, and each variable is explained."""

import ast
import importlib.metadata
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
DEPLOYED = ("gateway", "consent_web", "simulator", "devstore", "scripts")
# make run starts honcho as a command; the packages of the house itself.
OUR_OWN = {*DEPLOYED, "sandbox", "demo"}
EXTRAS = "requirements-otel.txt"
LOCKS = ("requirements.txt", "requirements-run.txt", "requirements-dev.txt")


def _imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def _pins(name: str) -> dict[str, str]:
    """The packages of a lock file, in their normal spelling, and their versions."""
    return dict(re.findall(r"^([a-z0-9][a-z0-9-]*)(?:\[[^]]*\])?==([^ ;\\]*)", (ROOT / name).read_text(), re.MULTILINE))


def test_what_is_deployed_imports_nothing_but_what_production_installs() -> None:
    """Not even inside a function: it would fail on the platform, long after the tests."""
    packages = importlib.metadata.packages_distributions()
    used = {name for folder in DEPLOYED for path in (ROOT / folder).rglob("*.py") for name in _imported(path)}
    foreign = used - set(sys.stdlib_module_names) - OUR_OWN
    needed = {re.sub(r"[-_.]+", "-", packages[name][0]).lower() for name in foreign}
    # gateway/metered/tracing.py checks for the optional packages, and logs how to install them.
    assert needed - set(_pins(LOCKS[0])) - set(_pins(EXTRAS)) == set()
    users = {path.name for path in (ROOT / "gateway").rglob("*.py") if "opentelemetry" in _imported(path)}
    assert users == {"tracing.py"}


def test_each_lock_holds_the_versions_of_the_one_before_it() -> None:
    """Tests run what production runs."""
    pins = [_pins(name).items() for name in LOCKS]
    assert pins[0] <= pins[1] <= pins[2]


def test_the_extras_go_beside_what_production_installs() -> None:
    """Installed after it, they move no version of it; and tests run with them."""
    extra, known, tested = (_pins(name) for name in (EXTRAS, LOCKS[0], LOCKS[-1]))
    assert {name: pin for name, pin in extra.items() if known.get(name, pin) != pin} == {}
    assert extra.items() <= tested.items()


def test_a_buildpack_takes_this_for_a_python_app() -> None:
    """A package.json in the root would make it a Node app."""
    assert (ROOT / "requirements.txt").exists()
    assert (ROOT / ".python-version").read_text().strip() in {"3.11", "3.12", "3.13"}
    assert not (ROOT / "package.json").exists()


def test_the_image_holds_every_folder_that_is_deployed() -> None:
    """The image contains the listed folders only: no tests, no sandbox, no lock files of development."""
    listed = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert listed == {*DEPLOYED, LOCKS[0], EXTRAS, "sdk", "docs"}
    assert all((ROOT / name).exists() for name in listed)


def test_each_variable_of_a_deployment_is_explained() -> None:
    """A name that no page explains is a typing error, or one that the services do not read."""
    explained = set(re.findall(r"`(?:…_)?([A-Z][A-Z_0-9]+)`", (ROOT / "docs/operating.md").read_text()))
    named = set(json.loads((ROOT / "app.json").read_text())["env"])
    for path in (ROOT / "compose.yaml", *(ROOT / "deploy").glob("*.service"), *(ROOT / "deploy").glob("*.example")):
        named |= set(re.findall(r"\b((?:WATTFARE|WEB|REDIS|OPENROUTER)_[A-Z_]+)\b", path.read_text()))
    assert named - explained == set()
