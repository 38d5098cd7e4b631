"""Every experiment of the benchmark. A new one is a function in a room beside, and a line here."""

from __future__ import annotations

from loadtest.bench.figure import Experiment
from loadtest.figures.features.batch_agent import batch_agent_vs_stock
from loadtest.figures.features.card_growth import card_growth
from loadtest.figures.features.dataset_vs_pandas import dataset_vs_pandas
from loadtest.figures.features.features_floor import features_vs_floor
from loadtest.figures.features.join_vs_feast import join_vs_feast
from loadtest.figures.features.offline_kernel import offline_kernel
from loadtest.figures.features.online_read import online_read_vs_feast, stored_bytes
from loadtest.figures.line.line import line_vs_plain, line_vs_tuned, whole_line
from loadtest.figures.models.artefact_load import artefact_load
from loadtest.figures.models.engine_vs_sgemm import engine_vs_sgemm
from loadtest.figures.models.int8_vs_fp32 import int8_vs_fp32
from loadtest.figures.models.labelled_in_part import labelled_in_part
from loadtest.figures.models.train_vs_plain import train_vs_plain
from loadtest.figures.scoring.batch64 import batch64_vs_engine
from loadtest.figures.scoring.batching import batching_vs_others
from loadtest.figures.scoring.line_latency import line_p99_vs_echo
from loadtest.figures.scoring.rss_growth import rss_growth
from loadtest.figures.scoring.rules_50 import rules_50
from loadtest.figures.scoring.under_load import half_load, overload, unary_vs_echo


def experiments() -> tuple[Experiment, ...]:
    """Return all of them, in the order of the table."""
    return (
        whole_line,
        line_vs_plain,
        line_vs_tuned,
        offline_kernel,
        join_vs_feast,
        online_read_vs_feast,
        features_vs_floor,
        batch_agent_vs_stock,
        card_growth,
        dataset_vs_pandas,
        stored_bytes,
        train_vs_plain,
        labelled_in_part,
        artefact_load,
        engine_vs_sgemm,
        int8_vs_fp32,
        rules_50,
        unary_vs_echo,
        batch64_vs_engine,
        half_load,
        overload,
        line_p99_vs_echo,
        batching_vs_others,
        rss_growth,
    )
