"""The Python SDK's wheel: its contents, and httpx as its only dependency."""

import ast
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "sdk/python"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, as building leaves files behind."""
    folder = tmp_path_factory.mktemp("wheel")
    source = shutil.copytree(PACKAGE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check", "--quiet")
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [built] = folder.glob("wattfare-*.whl")
    return built


def test_the_wheel_is_typed_and_whole(wheel: Path) -> None:
    """Every module and the marker of types; httpx is its only hard dependency, Python 3.10 the oldest."""
    with zipfile.ZipFile(wheel) as files:
        names = {name for name in files.namelist() if name.startswith("wattfare/")}
        [metadata] = [files.read(name).decode() for name in files.namelist() if name.endswith("METADATA")]
    assert names == {f"wattfare/{path.name}" for path in (PACKAGE / "wattfare").glob("*.*")}
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert required == ["Requires-Dist: httpx<1,>=0.25"]
    assert "Requires-Python: >=3.10" in metadata


@pytest.mark.parametrize("path", sorted((PACKAGE / "wattfare").glob("*.py")), ids=lambda path: path.stem)
def test_the_oldest_python_reads_it(path: Path) -> None:
    """No syntax that is newer than Python 3.10."""
    ast.parse(path.read_text(), feature_version=(3, 10))


def test_the_wheel_is_imported_alone(wheel: Path) -> None:
    """Without OpenAI's, Anthropic's or a framework's package being touched."""
    code = (
        "import sys, wattfare; assert '.whl' in wattfare.__file__; wattfare.Wattfare('sk_test_x_y').user('ada');"
        "print(*{'openai', 'anthropic', 'aiohttp', 'flask', 'django', 'starlette'} & set(sys.modules))"
    )
    command, environ = [sys.executable, "-W", "error", "-c", code], {"PYTHONPATH": str(wheel)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("\n", "")
