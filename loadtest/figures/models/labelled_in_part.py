"""A bank's own set of which few rows are labelled: our model against a plain XGBoost.

The set is simulated in each round, with a seed of its own: text ids, and labels, days later, for
most of what an old rule alerted on and for a sample of the rest. Ours is what `dataset` and
`train --model boosting` make of the file. The plain side takes
the same columns of the same set, drops what has no label, and learns by XGBoost with common
settings. Both learn from the rows before the test slice and are judged on its labelled rows. What a
plain XGBoost loses that takes every row without a label for genuine stands beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xgboost
from numpy.typing import NDArray

from fraudstream.archive.batches import LogRows, accepted_batch
from loadtest.bench.figure import Plan, Sample, Side, Sides, experiment, ratio
from loadtest.figures.table import figure
from training.metrics import average_precision
from training.offline.build import make_dataset
from training.offline.load import describe_set, load_dataset
from training.offline.plan import Request
from training.simulator.histories import DAY_MS
from training.simulator.messages import transaction_of
from training.simulator.simulate import Simulated, SimulationSettings, simulate
from training.train.config import Override, named_config
from training.train.members import specs_of
from training.train.slices import Slices, dataset_slices
from training.train.train import TrainRequest, train_model

_FIRST_SEED: Final = 11  # settings were tried on the sets before it
_CARDS: Final = 600
_DAYS: Final = 75
_FRAUD_SHARE: Final = 0.02
# Shares of rows that are labelled: of what the old rule (amount) alerts on, and of the rest.
_ALERTED: Final = 0.1
_LABELLED_OF_ALERTED: Final = 0.9
_LABELLED_OF_REST: Final = 0.3
_LATEST_DAYS: Final = 14
_LOG_COLUMNS: Final = ["log_partition", "log_offset"]

ApOf = Callable[[Path, int], float]


@experiment(
    figure("labelled_in_part", ratio("ours", "plain", "ap")),
    apart=lambda measured: {f"AP {side}": of["ap"] for side, of in measured.items()},
)
def labelled_in_part(plan: Plan) -> Iterator[Sides]:
    """Average precision where nobody labelled most rows."""
    cards = max(100, round(_CARDS * min(1.0, plan.scale)))
    with TemporaryDirectory() as folder:
        ways = {"ours": _ours, "plain": _plain, "as genuine": _as_genuine}
        yield {name: _side(ap_of, Path(folder), cards) for name, ap_of in ways.items()}


def _side(ap_of: ApOf, folder: Path, cards: int) -> Side:
    seeds = iter(range(_FIRST_SEED, 1_000))

    def run() -> Sample:
        seed = next(seeds)
        return {"ap": ap_of(_made(folder / f"{seed}", cards, seed), seed)}

    return run


def _made(made: Path, cards: int, seed: int) -> Path:
    """Return the training set of a round, which the first of its sides simulates."""
    source = made.with_suffix(".parquet")
    if not source.exists():
        simulated = simulate(SimulationSettings(seed, cards, _DAYS, fraud_share=_FRAUD_SHARE))
        pq.write_table(_labelled(simulated, seed), source)
    make_dataset(Request(str(source), "canonical", "", 0, 1 << 62, -1, 1), made, 1)
    return made


def _labelled(simulated: Simulated, seed: int) -> pa.Table:
    """Return the history as canonical columns, labelled in part."""
    messages = []
    for number, row in enumerate(simulated.rows):
        message = transaction_of(row, 1, number)
        message.card_token = f"{message.bank_id}.k1.{int(row['card']):032x}"
        message.amount_reference_minor = int(row["amount_reference_minor"])
        messages.append(message)
    event_ms = np.asarray(simulated.rows["event_time_ms"], np.int64)
    table = pa.table(accepted_batch(messages, LogRows(0, range(len(messages)), event_ms.tolist())))
    is_labelled = _drawn(simulated, seed)
    delay = np.random.default_rng((seed, 2)).integers(
        DAY_MS // 24, _LATEST_DAYS * DAY_MS, len(event_ms)
    )
    is_fraud = simulated.rows["fraud_kind"] != 0
    labels = {"is_fraud": is_fraud, "label_arrival_time_ms": event_ms + delay}
    table = table.drop_columns(_LOG_COLUMNS)
    for name, column in labels.items():
        table = table.append_column(name, pa.array(column, mask=~is_labelled))
    return table


def _drawn(simulated: Simulated, seed: int) -> NDArray[np.bool_]:
    """Return which rows somebody labelled: most alerts of an old rule, a sample of the rest."""
    rng = np.random.default_rng((seed, 1))
    amount = simulated.rows["amount_reference_minor"] * rng.lognormal(0.0, 0.5, len(simulated.rows))
    is_alerted = amount >= np.quantile(amount, 1 - _ALERTED)
    share = np.where(is_alerted, _LABELLED_OF_ALERTED, _LABELLED_OF_REST)
    return np.asarray(rng.random(len(share)) < share)


def _ours(folder: Path, seed: int) -> float:
    path, config = named_config("boosting", None)
    override = Override(seed=seed, is_own_set=describe_set(folder).is_own)
    config = override.applied(config)
    out = folder.with_suffix(".model")
    request = TrainRequest(out, "own", 1, config, specs_of(path, config, override))
    artefact = train_model(request, dataset_slices(folder), lambda _: None)
    return artefact.manifest.metrics["ap"]


def _plain(folder: Path, seed: int) -> float:
    slices = dataset_slices(folder)
    return _ap_of_plain(slices.whole.vectors, slices.whole.is_fraud, slices, seed)


def _as_genuine(folder: Path, seed: int) -> float:
    slices, rows = dataset_slices(folder), load_dataset(folder)
    learned = rows.where(rows.event_time_ms < slices.test.event_time_ms.min())
    return _ap_of_plain(learned.vectors, learned.is_fraud, slices, seed)


def _ap_of_plain(
    vectors: NDArray[np.float32], is_fraud: NDArray[np.bool_], slices: Slices, seed: int
) -> float:
    model = xgboost.XGBClassifier(
        n_estimators=200, max_depth=4, learning_rate=0.1, random_state=seed, n_jobs=1
    )
    model.fit(vectors, is_fraud)
    score = model.predict_proba(slices.test.vectors)[:, 1].astype(np.float64)
    return average_precision(score, slices.test.is_fraud)
