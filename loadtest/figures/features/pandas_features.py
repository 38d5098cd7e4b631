"""The catalogue's features of the Handbook by pandas, as one would write them there.

Windows are `groupby().rolling` with time offsets, labels come by `merge_asof` on running totals,
distinct values by `rolling().apply`, and the clipped mean by a loop, since pandas has no such
recursion. Windows slide instead of having buckets, and "among the last 32" becomes "ever before"
for firsts: numbers differ a little from the catalogue's, the work is the same. Features of what
the Handbook does not have (merchants, devices, addresses, countries, codes, places) are left out.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

_CARD_WINDOWS: Final = {"1h": "1h", "24h": "24h", "7d": "7D", "30d": "30D"}
_LABEL_DAYS: Final = (1, 3, 7, 14, 30)
_DELAY: Final = pd.Timedelta(days=7)
_MONTH_S: Final = 30 * 86_400.0
_NIGHT_ENDS_H: Final = 7
_SATURDAY: Final = 5
_CLIP: Final = 3.0
_MEMORY: Final = 200
_RING: Final = 32


def pandas_features(rows: pd.DataFrame) -> pd.DataFrame:
    """Return features of transactions: `card`, `terminal`, `time`, `amount` and `is_fraud`."""
    rows = rows.sort_values(["card", "time"], kind="stable", ignore_index=True)
    found = pd.DataFrame({"card": rows["card"], "time": rows["time"], "amount": rows["amount"]})
    found["is_night"] = (rows["time"].dt.hour < _NIGHT_ENDS_H).astype("float32")
    found["is_weekend"] = (rows["time"].dt.dayofweek >= _SATURDAY).astype("float32")
    _add_card_windows(rows, found)
    _add_card_habits(rows, found)
    rows["is_unusual"] = (found["card_amount_to_usual"] > _CLIP).to_numpy()
    _add_card_ring(rows, found)
    _add_terminal(rows, found)
    _add_labels(rows, found, "card", (7, 30))
    _add_labels(rows, found, "terminal", _LABEL_DAYS)
    return found


def _add_card_windows(rows: pd.DataFrame, found: pd.DataFrame) -> None:
    amounts = rows.set_index("time").groupby("card")["amount"]
    for name, offset in _CARD_WINDOWS.items():
        window = amounts.rolling(offset)
        found[f"card_count_{name}"] = window.count().to_numpy()
        found[f"card_sum_{name}"] = window.sum().to_numpy()
        if name != "1h":
            found[f"card_mean_{name}"] = window.mean().to_numpy()
            found[f"card_max_{name}"] = window.max().to_numpy()
    found["card_std_30d"] = amounts.rolling("30D").std(ddof=0).to_numpy()
    before = amounts.rolling("30D", closed="left").mean().to_numpy()
    found["card_amount_to_mean_30d"] = rows["amount"].to_numpy() / before


def _add_card_habits(rows: pd.DataFrame, found: pd.DataFrame) -> None:
    by_card = rows.groupby("card")
    found["card_seconds_since_previous"] = by_card["time"].diff().dt.total_seconds()
    age = (rows["time"] - by_card["time"].transform("first")).dt.total_seconds()
    found["card_seconds_since_first"] = age.clip(upper=_MONTH_S)
    usual = by_card["amount"].transform(_usual)
    found["card_amount_to_usual"] = rows["amount"] / usual
    found["card_is_new_terminal"] = (~rows.duplicated(["card", "terminal"])).astype("float32")
    for name in ("night", "weekend"):
        share = found.groupby("card")[f"is_{name}"].rolling(_RING, min_periods=1).mean()
        found[f"card_{name}_share"] = share.groupby(level=0).shift().to_numpy()


def _usual(amounts: pd.Series[float]) -> pd.Series[float]:
    """Return the clipped mean before each purchase of one card."""
    usual = 0.0
    before = []
    for number, amount in enumerate(amounts.tolist(), start=1):
        before.append(usual or np.nan)
        weight = min(number, _MEMORY)
        usual = usual + (min(amount, _CLIP * usual) - usual) / weight if usual else amount
    return pd.Series(before, index=amounts.index)


def _add_card_ring(rows: pd.DataFrame, found: pd.DataFrame) -> None:
    indexed = rows.assign(ratio=found["card_amount_to_usual"]).set_index("time")
    by_card = indexed.groupby("card")
    for days in (1, 7, 14):
        window = by_card["is_unusual"].rolling(f"{days}D", closed="left")
        found[f"card_unusual_{days}d"] = window.sum().to_numpy()
    for days in (3, 14):
        window = by_card["ratio"].rolling(f"{days}D", closed="left")
        found[f"card_largest_ratio_{days}d"] = window.max().to_numpy()
    distinct = by_card["terminal"].rolling("24h").apply(_distinct, raw=True)
    found["card_terminals_24h"] = distinct.to_numpy()


def _distinct(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> int:
    return len(np.unique(values))


def _add_terminal(rows: pd.DataFrame, found: pd.DataFrame) -> None:
    ordered = rows.sort_values(["terminal", "time"], kind="stable")
    amounts = ordered.set_index("time").groupby("terminal")["amount"]
    columns = {}
    for name, offset in _CARD_WINDOWS.items():
        columns[f"terminal_count_{name}"] = amounts.rolling(offset, closed="left").count()
    columns["terminal_mean_30d"] = amounts.rolling("30D", closed="left").mean()
    for name, values in columns.items():
        found[name] = pd.Series(values.to_numpy(), index=ordered.index)
    found["terminal_amount_to_mean_30d"] = rows["amount"] / found["terminal_mean_30d"]
    first = ordered.groupby("terminal")["time"].transform("first")
    age = (ordered["time"] - first).dt.total_seconds().clip(upper=_MONTH_S)
    found["terminal_seconds_since_first"] = age


def _add_labels(
    rows: pd.DataFrame, found: pd.DataFrame, entity: str, windows: tuple[int, ...]
) -> None:
    """Add counts of settled frauds: differences of running totals, joined as of two moments."""
    totals = _totals(rows, entity)
    now = _as_of(rows, totals, entity, _DELAY)
    for days in windows:
        then = _as_of(rows, totals, entity, _DELAY + pd.Timedelta(days=days))
        frauds = now["frauds"] - then["frauds"]
        found[f"{entity}_fraud_count_{days}d"] = frauds
        if entity == "terminal":
            count = now["rows"] - then["rows"]
            found[f"terminal_fraud_share_{days}d"] = (frauds / count).fillna(0.0)
            found[f"terminal_unexplained_{days}d"] = now["unexplained"] - then["unexplained"]
    if entity == "terminal":
        since = (rows["time"] - _DELAY - now["genuine_at"]).dt.days
        found["terminal_days_since_genuine"] = since
        found["terminal_fraud_run"] = now["unexplained"] - now["at_genuine"]
        found["terminal_fraud_run_days"] = since.where(found["terminal_fraud_run"] > 0, 0)


def _totals(rows: pd.DataFrame, entity: str) -> pd.DataFrame:
    """Return running totals of each entity at each of its rows, in order of time."""
    ordered = rows.sort_values("time", kind="stable")
    by_entity = ordered.groupby(entity)
    unexplained = (ordered["is_fraud"] & ~ordered["is_unusual"]).groupby(ordered[entity]).cumsum()
    genuine = ~ordered["is_fraud"]
    of_entity = ordered[entity]
    return pd.DataFrame(
        {
            entity: of_entity,
            "time": ordered["time"],
            "rows": by_entity.cumcount() + 1,
            "frauds": by_entity["is_fraud"].cumsum(),
            "unexplained": unexplained,
            "genuine_at": ordered["time"].where(genuine).groupby(of_entity).ffill(),
            "at_genuine": unexplained.where(genuine).groupby(of_entity).ffill(),
        }
    )


def _as_of(
    rows: pd.DataFrame, totals: pd.DataFrame, entity: str, ago: pd.Timedelta
) -> pd.DataFrame:
    """Return the totals of each row's entity some time before it."""
    asked = pd.DataFrame({entity: rows[entity], "time": rows["time"] - ago, "row": rows.index})
    joined = pd.merge_asof(asked.sort_values("time"), totals, on="time", by=entity)
    joined = joined.set_index("row").sort_index()
    counts = ["rows", "frauds", "unexplained", "at_genuine"]
    joined[counts] = joined[counts].fillna(0)
    return joined
