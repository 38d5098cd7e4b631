"""A fit that was ended goes on, pre-training sees no label, and a student hears its teacher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fraudstream.errors import InvalidSettings
from tests.fakes.tiny_model import some_sequences, some_vectors

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: train)")

from training.dataset import Examples  # noqa: E402
from training.learning.fit import Fitted, fit_network, new_network, raw_scores  # noqa: E402
from training.learning.lesson import Lesson  # noqa: E402
from training.learning.loop import Targets  # noqa: E402
from training.learning.machine import Machine  # noqa: E402
from training.learning.pretrain import pretrain  # noqa: E402
from training.models.network import SequenceNetwork  # noqa: E402
from training.models.plan import FitPlan, PretrainPlan  # noqa: E402
from training.models.scaling import NetworkKind, NetworkShape  # noqa: E402
from training.train.config import ModelKind, TrainConfig  # noqa: E402  # after the skip
from training.train.members import MemberSpec, Report, remove_states  # noqa: E402

F, ROWS = 4, 600
SHAPE = NetworkShape(features=F, hidden=16, layers=1, mcc_buckets=8)
PLAN = FitPlan(branch_epochs=2, epochs=4, batch_rows=64, learning_rate=5e-3, genuine_share=0.5)


class Ended(Exception):
    """What a power cut is to a fit."""


class Cut:
    """Ends a fit after some reports."""

    def __init__(self, after: int) -> None:
        self.left = after
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        self.left -= 1
        if not self.left:
            raise Ended


def silently(_: str) -> None:
    """Drop progress lines."""


@pytest.fixture(scope="module")
def rows() -> Examples:
    """Some rows, every tenth of them fraud."""
    numbers = np.arange(ROWS, dtype=np.int64)
    is_fraud = numbers % 10 == 0
    return Examples(
        some_vectors(ROWS, F), some_sequences(ROWS), is_fraud, numbers, numbers, numbers, numbers
    )


def fit(
    lesson: Lesson, shape: NetworkShape = SHAPE, plan: FitPlan = PLAN, report: Report = silently
) -> Fitted:
    """Fit a fresh network."""
    return fit_network(lesson, shape, plan, report)


@pytest.mark.parametrize("kind", NetworkKind)
@pytest.mark.parametrize("batch_rows", [64, 2_048])  # on a GPU: float32, and bfloat16
@pytest.mark.parametrize(
    ("ended", "first"), [(2, "goes on after epoch 0"), (5, "goes on after epoch 2")]
)
def test_fit_that_was_ended_gives_the_same_network(
    rows: Examples, tmp_path: Path, kind: NetworkKind, batch_rows: int, ended: int, first: str
) -> None:
    """Weights, optimiser, schedule, order and chance go on where the last epoch left them."""
    shape, plan = replace(SHAPE, kind=kind), replace(PLAN, batch_rows=batch_rows)
    early, late = rows.between(0, 400), rows.between(400, ROWS)
    whole = fit(Lesson(early, late), shape, plan)
    with pytest.raises(Ended):
        fit(Lesson(early, late, folder=tmp_path), shape, plan, report=Cut(ended))
    again = Cut(99)

    found = fit(Lesson(early, late, folder=tmp_path), shape, plan, report=again)

    assert again.lines[0] == first
    assert raw_scores(found.network, late).tobytes() == raw_scores(whole.network, late).tobytes()
    assert found.epochs == whole.epochs


def test_small_steps_stay_in_float32_on_a_gpu() -> None:
    """Casts are kernels too: bfloat16 is for steps that compute longer than they are launched."""
    gpu, cpu = (Machine(torch.device(name)) for name in ("cuda", "cpu"))

    assert [gpu.is_mixed(rows) for rows in (FitPlan().batch_rows, 2_048)] == [False, True]
    assert not cpu.is_mixed(2_048)


def test_state_of_another_fit_is_refused(rows: Examples, tmp_path: Path) -> None:
    """Other settings or rows: going on would make a model that nobody asked for."""
    lesson = Lesson(rows, folder=tmp_path)
    fit(lesson, plan=replace(PLAN, epochs=1))

    with pytest.raises(InvalidSettings, match="delete it to start again"):
        fit(lesson)


def test_state_without_the_same_beginning_is_refused(rows: Examples, tmp_path: Path) -> None:
    """Weights from pre-training, a teacher or other rows to stop by make another fit."""
    plan = replace(PLAN, epochs=1, branch_epochs=0)
    alone = Lesson(rows, folder=tmp_path)
    fit(alone, plan=plan)

    for lesson, prepare in (
        (alone, forget),
        (replace(alone, teacher=np.full(ROWS, 0.5)), None),
        (replace(alone, later=rows), None),
    ):
        with pytest.raises(InvalidSettings, match="delete it to start again"):
            fit_network(lesson, SHAPE, plan, silently, prepare)


def forget(network: SequenceNetwork) -> None:
    """Set the weights of the last layer to nothing."""
    torch.nn.init.zeros_(network.head.weight)


def test_folder_that_takes_no_state_is_named(rows: Examples, tmp_path: Path) -> None:
    """A disk that is full or read-only is a matter of settings, not of the program."""
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "work" / "checkpoint.pt").mkdir(parents=True)
    for folder in (tmp_path / "file" / "work", tmp_path / "work"):
        with pytest.raises(InvalidSettings, match="cannot be kept there: "):
            fit(Lesson(rows, folder=folder))


def test_only_states_are_removed(rows: Examples, tmp_path: Path) -> None:
    """--work may name a folder that holds more than this run's states."""
    specs = [MemberSpec("lstm", TrainConfig(kind=ModelKind.LSTM))]
    plan = replace(PLAN, epochs=1, branch_epochs=0)
    for work in (tmp_path / "ours", tmp_path / "shared"):
        fit(Lesson(rows, folder=work / "lstm" / "fit"), plan=plan)
        (work / "lstm" / "fit" / "checkpoint.pt.killed").write_bytes(b"half")
    (tmp_path / "shared" / "thesis.txt").write_text("years of work")

    remove_states(specs, tmp_path / "ours")
    remove_states(specs, tmp_path / "shared")

    left = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")]
    assert sorted(left) == ["shared", "shared/thesis.txt"]


def test_state_that_is_a_program_is_not_run(rows: Examples, tmp_path: Path) -> None:
    """A pickle that would run something is refused, and does not run."""
    witness = tmp_path / "ran"
    torch.save({"what": _Touch(witness), "state": {}}, tmp_path / "checkpoint.pt")

    with pytest.raises(InvalidSettings, match="expected a checkpoint"):
        fit(Lesson(rows, folder=tmp_path))

    assert not witness.exists()


class _Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", NetworkKind)
def test_pretraining_learns_without_labels(rows: Examples, kind: NetworkKind) -> None:
    """The loss of masked fields falls, and labels change nothing."""
    shape = replace(SHAPE, kind=kind)
    plan = PretrainPlan(rows=ROWS, epochs=8, batch_rows=64, learning_rate=1e-2)
    told = Cut(999)
    turned = replace(rows, is_fraud=~rows.is_fraud)

    network, other = (new_network(rows, shape, 1) for _ in range(2))

    pretrain(network, rows, plan, PLAN, told)
    pretrain(other, turned, plan, PLAN, silently)

    losses = [float(line.rsplit(" ", 1)[1]) for line in told.lines]
    assert losses[-1] < 0.8 * losses[0]
    pairs = zip(network.encoder.parameters(), other.encoder.parameters(), strict=True)
    assert all(torch.equal(one, another) for one, another in pairs)


def test_teacher_is_heard_at_the_prevalence_of_the_sample() -> None:
    """Odds of 1 to 1 among all rows are 4 to 1 where every fourth genuine row is drawn."""
    is_fraud = np.array([True, False])

    targets = Targets.of(is_fraud, np.array([0.5, 0.5]), genuine_share=0.25, taught_share=0.5)

    assert targets.wanted.tolist() == pytest.approx([0.5 + 0.4, 0.4])
    assert targets.is_fraud.tolist() == [True, False]
