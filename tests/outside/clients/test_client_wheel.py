"""The client as a wheel of its own: installed alone, typed, and answered by a real scorer."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fraudstream.version import VERSION
from tests.outside.pages.pages import ROOT, blocks_of
from tests.worlds.scoring_world import scoring_world

CLIENT = ROOT / "clients" / "python"
UV = Path(sys.executable).with_name("uv")
NO_REGISTRY = re.compile("dns error|connect error|Failed to fetch|timed out", re.IGNORECASE)

pytestmark = pytest.mark.slow


def run_uv(*arguments: str | Path) -> None:
    """Run uv; skip the test where the package registry is out of reach."""
    done = subprocess.run([UV, *arguments], capture_output=True, text=True, check=False)
    if done.returncode and NO_REGISTRY.search(done.stderr):
        pytest.skip("no package registry within reach")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as `make client` builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    run_uv("build", "--quiet", "--wheel", "--out-dir", folder, CLIENT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a virtual environment that has the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("client")
    run_uv("venv", "--quiet", "--python", sys.executable, folder / "venv")
    found = folder / "venv" / "bin" / "python"
    run_uv("pip", "install", "--quiet", "--python", found, wheel)
    return found


def example() -> str:
    """Return the example of the client's own page."""
    (block,) = blocks_of((CLIENT / "README.md").read_text())
    return block.text


async def test_its_example_is_answered_by_a_scorer(topics: Mapping[str, str], python: Path) -> None:
    """Nothing but grpcio and protobuf is there, and the page's lines print a decision."""
    async with scoring_world(topics, None, sandbox_bank="sandbox-bank") as world:
        address = f"127.0.0.1:{world.service.ports[0]}"
        process = await asyncio.create_subprocess_exec(
            python,
            "-I",
            "-c",
            example().replace("127.0.0.1:50051", address),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        said, failed = await process.communicate()

    assert said.decode().startswith("ACTION_CHALLENGE "), failed.decode()


def test_its_types_are_seen(python: Path, tmp_path: Path) -> None:
    """With the stubs that the page names a checker of the bank's finds a wrong field."""
    run_uv("pip", "install", "--quiet", "--python", python, "types-protobuf")
    program = tmp_path / "payment.py"
    program.write_text(example() + "decision.acton\n")

    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--python-executable"]
    checked = subprocess.run(
        [*command, python, program], capture_output=True, text=True, cwd=tmp_path, check=False
    )

    faults = [line for line in checked.stdout.splitlines() if "error:" in line]
    assert len(faults) == 1, checked.stdout
    assert '"Decision" has no attribute "acton"' in faults[0]


def test_it_holds_the_client_alone(wheel: Path) -> None:
    """A bank's environment gets one package, of the modules that the client needs."""
    names = zipfile.ZipFile(wheel).namelist()

    packages = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    modules = {Path(name).stem for name in names if re.fullmatch(r"fraudstream/\w+\.py", name)}

    assert packages == {"fraudstream"}
    assert {"client", "grpc_access", "errors"} <= modules
    assert len(modules) < 10
    assert "fraudstream/py.typed" in names
    assert wheel.stat().st_size < 200_000


def test_versions_asked_for_are_those_that_generated_the_messages() -> None:
    """An older runtime refuses newer generated code at import, after the install went well."""
    told: dict[str, Any] = tomllib.loads((CLIENT / "pyproject.toml").read_text())
    messages = (ROOT / "fraudstream" / "v1" / "scoring_pb2.py").read_text()
    stubs = (ROOT / "fraudstream" / "v1" / "scoring_pb2_grpc.py").read_text()
    protobuf = re.findall(r"# Protobuf Python Version: (\S+)", messages)
    grpcio = re.findall(r"GRPC_GENERATED_VERSION = '(\S+)'", stubs)

    asked = dict(one.split(",")[0].split(">=") for one in told["project"]["dependencies"])

    assert [asked["protobuf"], asked["grpcio"]] == [*protobuf, *grpcio]


def test_client_and_project_have_one_version() -> None:
    """Which contract a client speaks can be told from its version."""
    client: dict[str, Any] = tomllib.loads((CLIENT / "pyproject.toml").read_text())

    assert client["project"]["version"] == VERSION
