"""The browser SDK's file: its tests under Node, its types, its size, its package."""

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
CLIENT = ROOT / "sdk/js/client.js"
NODE = str(Path(sys.executable).parent / "node")
TSC = str(ROOT / "node_modules/typescript/bin/tsc")
ESBUILD = str(ROOT / "node_modules/esbuild/bin/esbuild")
MOST_BYTES = 4500


def run(*command: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_behaves_under_node() -> None:
    """All of client.test.mjs and windows.test.mjs passes."""
    run(NODE, "--test", str(HERE / "client.test.mjs"), str(HERE / "windows.test.mjs"))


def test_what_browsers_download_is_the_build_of_the_source() -> None:
    """`make minify` was run after the last change."""
    built = run(*_esbuild(), str(CLIENT), "--bundle", "--minify", "--format=esm")
    assert (ROOT / "sdk/js/client.min.js").read_text() == built


def test_it_fits_in_four_and_a_half_kilobytes() -> None:
    """Minified and gzipped, the whole file, errors and all."""
    assert len(gzip.compress((ROOT / "sdk/js/client.min.js").read_bytes(), 9, mtime=0)) <= MOST_BYTES


def test_its_javascript_is_typed() -> None:
    """`tsc --checkJs` strict, the demo's page too; client.js by name, as the .d.ts beside it hides it from a glob."""
    run(NODE, TSC, "--project", str(HERE / "tsconfig.json"))


def test_the_types_by_hand_are_those_of_the_code(tmp_path: Path) -> None:
    """client.d.ts and what TypeScript derives from client.js can stand for each other."""
    # client.js is read without its .d.ts beside it, which would stand in for it.
    source, read = tmp_path / "source", tmp_path / "read"
    source.mkdir()
    (source / "client.js").write_text(CLIENT.read_text().replace("'./client.js'", "'./written.d.ts'"))
    (source / "written.d.ts").write_text((ROOT / "sdk/js/client.d.ts").read_text())
    (source / "package.json").write_text('{"type": "module"}')
    emit = {"noEmit": False, "declaration": True, "emitDeclarationOnly": True}
    _compile(tmp_path / "emit.json", {**emit, "rootDir": str(source), "outDir": str(read)}, source / "client.js")
    shutil.copy(source / "written.d.ts", read)
    paths = {"#read": [str(read / "client.d.ts")], "#written": [str(source / "written.d.ts")]}
    _compile(tmp_path / "check.json", {"paths": paths, "skipLibCheck": False}, HERE / "types_agree.ts")


def test_the_package_leads_to_the_files() -> None:
    """`wattfare/client` resolves to both files, types first; there is no root export and no side effect."""
    package = json.loads((ROOT / "sdk/js/package.json").read_text())
    assert package["name"] == "wattfare"
    assert list(package["exports"]["./client"]) == ["types", "default"]
    assert "." not in package["exports"]
    assert package["sideEffects"] is False
    for path in package["exports"]["./client"].values():
        assert (ROOT / "sdk/js" / path).is_file()


@pytest.mark.parametrize("word", ["eval(", "innerHTML", "document.cookie", "localStorage", "document.referrer"])
def test_it_does_not_use(word: str) -> None:
    """Constructs that a page's CSP forbids or a reviewer would question."""
    assert word not in CLIENT.read_text()


def _compile(config: Path, options: dict[str, object], file: Path) -> None:
    extends = str(ROOT / "tsconfig.json")
    settings = {"extends": extends, "compilerOptions": options, "files": [str(file)], "include": []}
    config.write_text(json.dumps(settings))
    run(NODE, TSC, "--project", str(config))


def _esbuild() -> list[str]:
    """Its installer may have put the binary itself in the place of the script."""
    with Path(ESBUILD).open("rb") as file:
        return [NODE, ESBUILD] if file.read(2) == b"#!" else [ESBUILD]
