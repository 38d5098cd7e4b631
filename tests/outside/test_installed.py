"""The project as a user installs it: one wheel, one top-level name, one command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from fraudstream.cli.table import PROGRAMS
from fraudstream.version import VERSION
from harness.processes import PROJECT_FOLDER
from tests.outside.clients.test_client_wheel import run_uv
from tests.worlds.trust import RULES_FILE

pytestmark = pytest.mark.slow

Run = Callable[..., subprocess.CompletedProcess[str]]

# How each shell is asked what it would offer after words; zsh's own display needs a terminal.
_ASK: Final = {
    "bash": """
        eval "$(fraudstream completion bash)"
        COMP_WORDS=({words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _fraudstream; printf '%s\\n' "${{COMPREPLY[@]}}"
    """,
    "zsh": """
        compdef() {{ }}; _files() {{ }}; _describe() {{ print -l -- ${{found%%:*}} }}
        eval "$(fraudstream completion zsh)"
        words=({words}) CURRENT=${{#words}}; _fraudstream
    """,
    "fish": """
        fraudstream completion fish | source
        complete -C "{words}" | cut -f1
    """,
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, as `pip install .` builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    run_uv("build", "--quiet", "--wheel", "--out-dir", folder, PROJECT_FOLDER)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def bin_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Commands of an environment that has the wheel, and this one's libraries below it."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    run_uv("venv", "--quiet", "--python", sys.executable, folder)
    run_uv("pip", "install", "--quiet", "--no-deps", "--python", folder / "bin" / "python", wheel)
    (packages,) = folder.glob("lib/python*/site-packages")
    # Only the folder itself: path files in it, such as the one of the working tree, are not read.
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


@pytest.fixture(scope="module")
def run(bin_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a program of the environment, in a folder of its own."""
    folder = tmp_path_factory.mktemp("work")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment["PATH"] = f"{bin_folder}:{os.environ['PATH']}"

    def run_one(*command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=folder, env=environment
        )

    return run_one


def test_wheel_has_one_top_level_name(wheel: Path) -> None:
    """`services` or `demo` at the top would hide, or be hidden by, a package of someone else's."""
    names = zipfile.ZipFile(wheel).namelist()

    assert {name.split("/")[0] for name in names} == {
        "fraudstream",
        f"fraudstream-{VERSION}.dist-info",
    }
    assert "fraudstream/py.typed" in names


def test_files_that_code_reads_are_in_the_wheel(wheel: Path) -> None:
    """What is no Python and tracked lies in the wheel where it lies in the tree."""
    rooms = ["fraudstream", "services", "training", "harness", "demo", "models/demo", "samples"]
    listed = subprocess.run(
        ["git", "ls-files", *rooms], capture_output=True, text=True, check=True, cwd=PROJECT_FOLDER
    )
    names = set(zipfile.ZipFile(wheel).namelist())

    tracked = {name for name in listed.stdout.split() if not name.endswith("Dockerfile")}

    assert {
        name
        for name in tracked
        if name not in names and f"fraudstream/_programs/{name}" not in names
    } == set()


def test_help_shows_every_program_and_loads_none(run: Run) -> None:
    """Looking for a command costs the start of Python and no more."""
    shown = run("fraudstream", "--help")
    loaded = run(
        "python",
        "-c",
        "import sys; from fraudstream.cli.main import run; run(['--help']); print(*sys.modules)",
    ).stdout.splitlines()[-1]

    assert shown.returncode == 0
    assert all(f"\n  {program} " in shown.stdout for program in PROGRAMS)
    assert not {"services", "training", "argparse", "numpy"} & set(loaded.split())


def test_a_program_runs_from_any_folder(run: Run, tmp_path: Path) -> None:
    """Its usage names it as it was started, and its own exit codes come through."""
    good = shutil.copy(RULES_FILE, tmp_path)
    bad = tmp_path / "bad.toml"
    bad.write_text("[[rules]]\n")

    assert run("fraudstream", "scoring", "rules", "check", good).returncode == 0
    assert run("fraudstream", "scoring", "rules", "check", bad).returncode == 65
    assert run("fraudstream", "ingest", "keys", "records", "list").returncode == 0
    wrong = run("fraudstream", "training", "evaluate", "--until", "soon")
    assert wrong.returncode == 64
    assert wrong.stderr.startswith("usage: fraudstream training evaluate ")
    assert run("fraudstream", "nonsense").returncode == 64


def test_programs_start_others_by_python(run: Run) -> None:
    """Workers and the demo's services are children: they find the programs as their parent did."""
    assert run("python", "-c", "import services").returncode != 0

    child = run(
        "python",
        "-c",
        "import subprocess, sys; from fraudstream.cli.main import entry_of; entry_of('keys');"
        "sys.exit(subprocess.call([sys.executable, '-m', 'services.archive', '--version']))",
    )

    assert (child.returncode, child.stdout) == (0, f"fraudstream {VERSION}\n"), child.stderr


@pytest.mark.parametrize("shell", _ASK)
def test_shells_complete_commands_and_options(run: Run, shell: str) -> None:
    """Words come from the table, options from the command's own help."""
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on the PATH")

    def offered(words: str) -> list[str]:
        asked = run(shell, "-c", _ASK[shell].format(words=words))
        assert asked.returncode == 0, asked.stderr
        return sorted(asked.stdout.split())

    assert offered("fraudstream sc") == ["scoring"]
    assert offered("fraudstream scoring r") == ["replay", "rules"]
    assert offered("fraudstream scoring rules pub") == ["publish"]
    assert offered("fraudstream keys wrap --p") == ["--purpose"]
