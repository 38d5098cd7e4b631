"""What others bring: Node.js with grpc-js, a Prometheus. Skipped, with the reason, where absent."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.outside.clients.grpc_js import GrpcJs, install


@pytest.fixture(scope="session")
def grpc_js(tmp_path_factory: pytest.TempPathFactory) -> GrpcJs:
    """grpc-js, installed from its lock."""
    return install(tmp_path_factory.mktemp("node") / "caller")


@pytest.fixture(scope="session")
def prometheus() -> Path:
    """The program `prometheus`."""
    found = shutil.which("prometheus")
    if found is None:
        pytest.skip("no Prometheus on the PATH")
    return Path(found)
