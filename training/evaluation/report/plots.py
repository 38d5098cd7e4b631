"""Plots as SVG text that is the same byte for byte for the same figures."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from fraudstream.models.psi import ALARM, WATCH
from training.evaluation.figures.cost import CostCurve
from training.evaluation.figures.reliability import Bin
from training.evaluation.figures.segments import RECALL, SegmentFigures
from training.metrics import Bools, Floats

# Okabe and Ito (2008): told apart by people who do not see red and green apart.
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
_LINES: Final = ("-", "--", "-.", ":")
# One model has one colour on every plot, whichever others are beside it.
_MODELS: Final = (
    "boosting",
    "lstm",
    "transformer",
    "ensemble",
    "logistic regression",
    "amount rule",
)
_POINTS: Final = 400  # of a curve: more than a screen shows
_STYLE: Final[Any] = {  # matplotlib's stubs want a literal where this is given
    "svg.hashsalt": "fraudstream",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e8ee",
    "axes.axisbelow": True,
}
_BESIDE: Final[Any] = {"frameon": False, "loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
_NOTHING: Final = {"Date": None, "Creator": None, "Format": None, "Type": None}


def _draw(width: float, height: float, paint: Callable[[Axes], None]) -> str:
    """Return what `paint` draws, inches wide and high, as an `<svg>` element."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=_NOTHING)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _line(
    axes: Axes, number: int, points: tuple[Sequence[float] | Floats, Floats], name: str
) -> None:
    """Draw a model's line in its own colour and dashes."""
    axes.plot(
        *points,
        label=name,
        color=_COLOURS[number % len(_COLOURS)],
        linestyle=_LINES[number % len(_LINES)],
    )


def _number_of(model: str) -> int:
    return _MODELS.index(model) if model in _MODELS else len(_MODELS)


def _thinned(count: int) -> NDArray[np.intp]:
    """Return about 400 of so many places: evenly spread, and closer together among the first."""
    even = np.linspace(0, count - 1, _POINTS // 2)
    return np.unique(np.append(even, np.geomspace(1, count, _POINTS // 2) - 1).round()).astype(
        np.intp
    )


def precision_recall_plot(scores: Mapping[str, Floats], is_fraud: Bools) -> str:
    """Return precision against recall of each model, pooled over the folds."""

    def paint(axes: Axes) -> None:
        for name, score in scores.items():
            hits = np.cumsum(is_fraud[np.argsort(-score, kind="stable")])
            at_fraud = np.flatnonzero(np.diff(hits, prepend=0))
            kept = at_fraud[_thinned(len(at_fraud))]
            points = (hits[kept] / hits[-1], hits[kept] / (kept + 1))
            _line(axes, _number_of(name), points, name)
        axes.set(xlabel="recall: share of frauds found", ylabel="precision: fraud among alerts")
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        axes.legend(**_BESIDE)

    return _draw(9.6, 4.6, paint)


def calibration_plot(bins: Mapping[str, Sequence[Bin]]) -> str:
    """Return fraud share against mean score by bins of equal mass, both logarithmic."""

    def paint(axes: Axes) -> None:
        lowest = 1e-4
        axes.plot([lowest, 1], [lowest, 1], color="#8a94a3", linewidth=1, label="perfect")
        for number, (name, found) in enumerate(bins.items()):
            score = [max(each.mean_score, lowest) for each in found]
            share = [max(each.fraud_share, lowest) for each in found]
            _line(axes, number, (score, np.array(share)), name)
            axes.plot(score, share, "o", markersize=4, color=_COLOURS[number])
        axes.set(xscale="log", yscale="log", xlim=(lowest, 1.2), ylim=(lowest, 1.2))
        axes.set(xlabel="mean score of the bin", ylabel="share of fraud in the bin")
        axes.legend(**_BESIDE)

    return _draw(7.4, 4.4, paint)


def cost_plot(curves: Mapping[str, CostCurve], chosen: Mapping[str, float]) -> str:
    """Return cost on the tested rows against the threshold; dots where validation put it."""

    def paint(axes: Axes) -> None:
        for name, curve in curves.items():
            number = _number_of(name)
            shown = np.isfinite(curve.threshold) & (curve.threshold > 1e-4)
            threshold, cost = curve.threshold[shown], curve.cost_minor[shown] / 100
            kept = _thinned(len(threshold))
            _line(axes, number, (threshold[kept], cost[kept]), name)
            if name in chosen and len(threshold):
                at = int(np.argmin(np.abs(threshold - chosen[name])))
                axes.plot(threshold[at], cost[at], "o", color=_COLOURS[number % len(_COLOURS)])
        axes.set(xscale="log", xlabel="threshold, calibrated score", ylabel="cost, major units")
        nothing = max((curve.cost_minor[0] / 100 for curve in curves.values()), default=1.0)
        axes.set_ylim(0, 1.2 * nothing)
        axes.axhline(nothing, color="#8a94a3", linewidth=1)
        axes.text(1.0, nothing, "no model", va="bottom", ha="right", color="#566273")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.legend(**_BESIDE)

    return _draw(9.6, 4.0, paint)


def segment_plot(segments: Sequence[SegmentFigures], everyone: float) -> str:
    """Return recall by segment as bars, with that of all rows as a line."""
    known = [found for found in segments if found.frauds]

    def paint(axes: Axes) -> None:
        names = [f"{found.trait}: {found.label} ({found.frauds})" for found in known]
        colours = ["#b8c4d3" if found.is_thin(RECALL) else _COLOURS[0] for found in known]
        axes.barh(names[::-1], [found.recall for found in known][::-1], color=colours[::-1])
        axes.axvline(everyone, color=_COLOURS[1], linestyle="--")
        axes.set(xlim=(0, 1), xlabel="recall at the operating threshold; dashed: all rows")
        axes.grid(visible=False, axis="y")

    return _draw(9.6, 0.9 + 0.27 * len(known), paint)


def drift_plot(psi: Mapping[str, Sequence[float]], folds: Sequence[str]) -> str:
    """Return the score's PSI of each fold against the first, with the levels of alarm."""

    def paint(axes: Axes) -> None:
        for name, found in psi.items():
            _line(axes, _number_of(name), (range(len(folds)), np.array(found)), name)
        for level, name in ((WATCH, "watch"), (ALARM, "alarm")):
            axes.axhline(level, color="#8a94a3", linewidth=1)
            axes.text(0, level, f" {name} {level}", va="bottom", color="#566273")
        axes.set_xticks(range(len(folds)), folds)
        axes.set(xlabel="first day of the fold's test", ylabel="PSI of the score")
        axes.set_ylim(bottom=0)
        axes.legend(**_BESIDE)

    return _draw(9.6, 3.2, paint)
