"""The house rules that no linter holds: sizes, names, tests beside modules, Lua headers, imports."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("gateway", "consent_web", "sandbox", "simulator", "devstore", "demo", "scripts")
TESTED = ("gateway", "simulator", "devstore")
FOLDERS = (*PACKAGES, "sdk/python", "tests", "benchmarks")
MOST_FUNCTION_LINES = 60
MOST_FILE_LINES = 400
MOST_LUA_LINES = 80  # below the header

# Imports each named module in a fork of its own: as fresh as a new interpreter, in a tenth of the time.
# What others wrote is loaded before the fork, for speed; of ours nothing is.
IMPORT_ALONE = """
import importlib, os, sys, traceback
for name in ("aiohttp.web", "aiohttp_jinja2", "redis.asyncio", "cryptography.hazmat.primitives.ciphers.aead",
             "jwt", "orjson", "structlog", "prometheus_client"):
    importlib.import_module(name)
failed = []
for name in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        try:
            importlib.import_module(name)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        failed.append(name)
sys.exit(f"cannot be imported alone: {failed}" if failed else 0)
"""


def python_files() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def lua_files() -> list[Path]:
    return sorted((ROOT / "gateway").glob("*/lua/*.lua"))


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def long_functions(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MOST_FUNCTION_LINES:
                yield f"{shown(path)}:{node.lineno} {node.name} has {lines} lines"


def test_no_function_outgrows_a_screen() -> None:
    """A function has at most 60 lines."""
    assert [found for path in python_files() for found in long_functions(path)] == []


def test_no_file_outgrows_its_noun() -> None:
    """A Python file has at most 400 lines."""
    counted = {shown(path): len(path.read_text().splitlines()) for path in python_files()}
    assert {path: lines for path, lines in counted.items() if lines > MOST_FILE_LINES} == {}


def test_each_file_says_what_it_is_for() -> None:
    """A file starts with a docstring."""
    silent = [shown(path) for path in python_files() if ast.get_docstring(ast.parse(path.read_text())) is None]
    assert silent == []


def test_no_file_is_a_drawer_for_odds_and_ends() -> None:
    """No file is named utils, helpers, common, misc, manager or the like."""
    drawer = re.compile(r"(^|_)(utils?|helpers?|common|misc|managers?|base|types|models_?)$")
    named = [shown(path) for path in python_files() if drawer.search(path.stem)]
    assert named == []


def test_each_module_has_its_tests() -> None:
    """Each module has a test_<module>.py in the same folder of tests/; `__main__` has test_main.py."""
    modules = [path.relative_to(ROOT) for name in TESTED for path in (ROOT / name).rglob("*.py")]
    wanted = {f"{path.parent}/test_{path.stem.strip('_')}.py" for path in modules if path.stem != "__init__"}
    assert sorted(name for name in wanted if not (ROOT / "tests" / name).exists()) == []


@pytest.mark.parametrize("path", lua_files(), ids=lambda path: path.stem)
def test_each_lua_header_lists_what_the_body_uses(path: Path) -> None:
    """A script's header names exactly the KEYS and ARGV that its body reads, counted from 1 without a gap."""
    header, end, body = path.read_text().partition("]]")
    assert header.startswith(f"--[[ {path.stem}: ")
    assert end
    for name in ("KEYS", "ARGV"):
        listed = [int(number) for number in re.findall(rf"^{name}\[(\d+)\]", header, re.MULTILINE)]
        used = {int(number) for number in re.findall(rf"\b{name}\[(\d+)\]", body)}
        assert listed == sorted(used), f"{name}: header lists {listed}, body uses {sorted(used)}"
        assert listed == list(range(1, len(listed) + 1))


@pytest.mark.parametrize("path", lua_files(), ids=lambda path: path.stem)
def test_each_lua_script_fits_on_a_screen(path: Path) -> None:
    """A script has at most 80 lines below its header, which states the return values and the effect of a repeat."""
    header, _, body = path.read_text().partition("]]")
    assert len(body.splitlines()) <= MOST_LUA_LINES
    assert re.search(r"^RETURNS ", header, re.MULTILINE)
    assert re.search(r"^REPEAT ", header, re.MULTILINE)


def test_each_module_imports_alone_without_a_warning() -> None:
    """Whatever is imported first works: no module leans on another one having been imported before."""
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    ]
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_ALONE, *modules],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
