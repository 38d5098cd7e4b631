"""The point-in-time join of label rows: our replay of the history, and Feast's own join.

Ours begins with the transactions and computes every feature at each label row. Feast is given the
feature rows of every transaction, computed beforehand, and only joins them, which favours it. Both
end in a data frame of the same rows and numbers, which is checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from fraudstream.features.catalogue import FEATURE_NAMES
from fraudstream.features.history import replay_history
from fraudstream.features.warm_up import warm_up
from fraudstream.settings import RedisSettings
from loadtest.bench.cpu import spent
from loadtest.bench.figure import MeasurementFailed, Plan, Sides, experiment, ratio
from loadtest.figures.handbook import lacking_for_handbook, write_cards
from loadtest.figures.table import figure
from training.simulator.histories import LabelledHistory, handbook_history

# Feast joins every label row of a card with all of its feature rows before it drops the later
# ones, so its cost grows with the square of the history: more cards would only favour us.
CARDS: Final = 60
# Names that Feast's reads are keyed by.
CARD_KEY: Final = "card_token"
VIEW: Final = "card_features"
TIME: Final = "event_timestamp"
LABELS: Final = 1_000


@experiment(
    figure("join_vs_feast", ratio("feast", "ours")),
    needs=(lacking_for_handbook,),
)
def join_vs_feast(plan: Plan) -> Iterator[Sides]:
    """Compute Feast's feature rows, register them, and check that both sides agree."""
    # Importing Feast takes ten seconds, which other figures shall not wait for.
    from loadtest.plain.feast_parts import open_floats

    plan.folder.mkdir(parents=True, exist_ok=True)
    transactions, features = plan.folder / "rows.parquet", plan.folder / "features.parquet"
    write_cards(plan.machine, CARDS, transactions)
    labelled = handbook_history(transactions)
    wanted = label_rows(labelled, plan.rows(LABELS))
    warm_up()
    write_features(labelled, features)
    store = open_floats(plan.folder / "feast", RedisSettings(), VIEW, FEATURE_NAMES, features)
    references = [f"{VIEW}:{name}" for name in FEATURE_NAMES]
    entities = keys_of(labelled, np.flatnonzero(wanted))

    def ours() -> pd.DataFrame:
        history = handbook_history(transactions).history
        frame = pd.DataFrame(replay_history(history, wanted).vectors, columns=FEATURE_NAMES)
        return pd.concat([entities, frame], axis=1)

    def theirs() -> pd.DataFrame:
        return store.get_historical_features(entities, references).to_df()

    check_same(ours(), theirs())
    count = len(entities)
    yield {"ours": lambda: spent(ours, count), "feast": lambda: spent(theirs, count)}


def label_rows(labelled: LabelledHistory, count: int) -> npt.NDArray[np.bool_]:
    """Return which rows have a label that is trained on: all frauds, and genuine rows at random."""
    wanted = labelled.is_fraud.copy()
    genuine = np.flatnonzero(~wanted)
    more = min(max(0, count - int(wanted.sum())), len(genuine))
    wanted[np.random.default_rng(7).choice(genuine, more, replace=False)] = True
    return wanted


def keys_of(labelled: LabelledHistory, at: npt.NDArray[np.intp]) -> pd.DataFrame:
    """Return cards and times of rows as Feast takes them."""
    history = labelled.history
    times = pd.to_datetime(history.rows["event_ms"][at], unit="ms", utc=True)
    return pd.DataFrame({CARD_KEY: history.card[at].astype(str), TIME: times})


def write_features(labelled: LabelledHistory, path: Path) -> None:
    """Write the features of every row, as a job that computes them beforehand would."""
    count = len(labelled.history.rows)
    vectors = replay_history(labelled.history, np.ones(count, np.bool_)).vectors
    keys = keys_of(labelled, np.arange(count))
    pd.concat([keys, pd.DataFrame(vectors, columns=FEATURE_NAMES)], axis=1).to_parquet(path)


def check_same(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    """Check that both joins found the same features, else `MeasurementFailed`.

    Of a card that pays twice in a second Feast may take either row, so those are left out.
    """
    keys = [CARD_KEY, TIME]
    ours = ours.drop_duplicates(keys, keep=False).sort_values(keys)
    theirs = theirs.drop_duplicates(keys, keep=False).sort_values(keys)
    one = ours[list(FEATURE_NAMES)].to_numpy(np.float32)
    other = theirs[list(FEATURE_NAMES)].to_numpy(np.float32)
    same = (one == other) | (np.isnan(one) & np.isnan(other)) if one.shape == other.shape else None
    if same is None or same.all(axis=1).mean() < 0.99:
        raise MeasurementFailed(f"Feast's join found other features: {one.shape}, {other.shape}")
