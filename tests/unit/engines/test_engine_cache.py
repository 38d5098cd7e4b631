"""Plans on disk: taken only if they are what was written, for this model, GPU and library."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fraudstream.engines.engine_cache import EngineCache, PlanKey
from fraudstream.engines.engine_kinds import EngineKind
from fraudstream.engines.protocol import Precision
from fraudstream.engines.tensorrt_build import ROW_PROFILES, Plan, TensorSpec
from fraudstream.errors import InvalidSettings

KEY = PlanKey(
    model_sha256="ab" * 32,
    precision=Precision.FP16,
    library=EngineKind.TENSORRT,
    library_version="11.4.0.106",
    gpu_name="NVIDIA L4",
    compute_capability=(8, 9),
    profiles=ROW_PROFILES,
)
PLAN = Plan(
    b"a plan",
    (
        TensorSpec("vector", True, "FLOAT", (84,)),
        TensorSpec("sequence", True, "FLOAT", (32, 6)),
        TensorSpec("raw_score", False, "FLOAT", ()),
    ),
    ROW_PROFILES,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one plan."""
    EngineCache(tmp_path / "engines").store(KEY, PLAN)
    return tmp_path / "engines"


def test_plan_comes_back_whole(folder: Path) -> None:
    """With its tensors and profiles."""
    assert EngineCache(folder).load(KEY) == PLAN


def test_json_beside_it_names_tensors_and_profiles(folder: Path) -> None:
    """For people, and for what cannot open a plan."""
    found = json.loads((folder / f"{KEY.name}.json").read_text())

    assert found["tensors"][1]["row_shape"] == [32, 6]
    assert found["key"]["profiles"][0] == {"least": 1, "best": 1, "most": 8}
    assert found["key"]["gpu_name"] == "NVIDIA L4"


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, model_sha256="cd" * 32),
        replace(KEY, precision=Precision.FP32),
        replace(KEY, library=EngineKind.TENSORRT_RTX),
        replace(KEY, library_version="11.5"),
        replace(KEY, gpu_name="NVIDIA L40"),
        replace(KEY, compute_capability=(9, 0)),
        replace(KEY, profiles=ROW_PROFILES[:1]),
    ],
    ids=["model", "precision", "library", "version", "gpu", "capability", "profiles"],
)
def test_other_key_has_another_plan(folder: Path, other: PlanKey) -> None:
    """Whatever a plan depends on is in its name."""
    assert EngineCache(folder).load(other) is None


def _truncate(folder: Path) -> None:
    (folder / f"{KEY.name}.plan").write_bytes(PLAN.content[:-1])


def _flip(folder: Path) -> None:
    (folder / f"{KEY.name}.plan").write_bytes(b"b" + PLAN.content[1:])


def _lose(folder: Path) -> None:
    (folder / f"{KEY.name}.plan").unlink()


def _link(folder: Path) -> None:
    plan = folder / f"{KEY.name}.plan"
    plan.rename(folder / "elsewhere")
    plan.symlink_to(folder / "elsewhere")


def _damage_json(folder: Path) -> None:
    (folder / f"{KEY.name}.json").write_text('{"key": ')


def _list_json(folder: Path) -> None:
    (folder / f"{KEY.name}.json").write_text("[]")


def _other_key(folder: Path) -> None:
    path = folder / f"{KEY.name}.json"
    path.write_text(path.read_text().replace("NVIDIA L4", "NVIDIA T4"))


def _half_json(folder: Path) -> None:
    path = folder / f"{KEY.name}.json"
    found = json.loads(path.read_text())
    del found["tensors"]
    path.write_text(json.dumps(found))


@pytest.mark.parametrize(
    "damage",
    [_truncate, _flip, _lose, _link, _damage_json, _list_json, _other_key, _half_json],
    ids=lambda damage: damage.__name__.strip("_"),
)
def test_damaged_or_foreign_entry_is_refused(
    folder: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """It is as if there were none, and the log says why."""
    damage(folder)

    with caplog.at_level(logging.WARNING):
        assert EngineCache(folder).load(KEY) is None

    assert "it is built again" in caplog.text


def test_kernels_come_back_only_as_they_were_written(folder: Path) -> None:
    """What TensorRT-RTX compiled stands behind its own digest."""
    cache = EngineCache(folder)
    cache.store_kernels(KEY, b"kernels")
    kept = cache.load_kernels(KEY)
    path = folder / f"{KEY.name}.jit"
    path.write_bytes(path.read_bytes()[:-1] + b"S")

    assert kept == b"kernels"
    assert cache.load_kernels(KEY) == b""


def test_files_are_for_their_owner_alone(folder: Path) -> None:
    """A plan is machine code: who writes it, runs in our process."""
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700


def test_folder_that_others_may_write_into_is_refused(tmp_path: Path) -> None:
    """Nothing in it could be trusted."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)

    with pytest.raises(InvalidSettings, match="mode 0777"):
        EngineCache(tmp_path / "open")


def test_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """The message names the folder."""
    (tmp_path / "file").write_text("")

    with pytest.raises(InvalidSettings, match="no folder for engines"):
        EngineCache(tmp_path / "file")


def test_full_disk_costs_the_entry_only(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The engine that was built serves all the same."""
    cache = EngineCache(folder)
    (folder / f"{KEY.name}.plan").unlink()
    (folder / f"{KEY.name}.plan").mkdir()  # as unwritable as a full disk

    with caplog.at_level(logging.WARNING):
        cache.store(KEY, PLAN)

    assert "was not kept" in caplog.text
    assert not list(folder.glob("tmp*"))
