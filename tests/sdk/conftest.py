"""Fixtures of the SDKs' tests: the packed package, the real gateway over the sandbox."""

from pathlib import Path

import pytest

from tests.gateway.conftest import sandbox, sandboxed
from tests.sdk.packed import install

__all__ = ["sandbox", "sandboxed"]


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty project in which the packed package is installed."""
    return install(tmp_path_factory.mktemp("packed"))
