"""Every experiment of the benchmark. A new one is a file beside this one and a line here."""

from __future__ import annotations

from demo.settings import MachineSettings
from fraudstream.settings import KafkaSettings
from loadtest.bench.figure import Experiment
from loadtest.figures.artefact_load import ArtefactLoad
from loadtest.figures.batch64 import BatchVsEngine
from loadtest.figures.batch_agent import BatchAgentVsStock
from loadtest.figures.batching import Batching
from loadtest.figures.card_growth import CardGrowth
from loadtest.figures.dataset_vs_pandas import DatasetVsPandas
from loadtest.figures.engine_vs_sgemm import EngineVsSgemm
from loadtest.figures.features_floor import FeaturesVsFloor
from loadtest.figures.int8_vs_fp32 import Int8VsFp32
from loadtest.figures.join_vs_feast import JoinVsFeast
from loadtest.figures.line import LineExperiment
from loadtest.figures.line_latency import LineLatency
from loadtest.figures.line_vs_plain import line_vs_plain, line_vs_tuned
from loadtest.figures.offline_kernel import OfflineKernel
from loadtest.figures.online_read_vs_feast import OnlineReadVsFeast
from loadtest.figures.rss_growth import RssGrowth
from loadtest.figures.rules_50 import Rules50
from loadtest.figures.stored_bytes import StoredBytes
from loadtest.figures.train_vs_plain import TrainVsPlain
from loadtest.figures.unary import UnaryVsEcho
from loadtest.figures.under_load import HalfLoad, Overload


def experiments() -> tuple[Experiment, ...]:
    """Return all of them, in the order of the table."""
    machine, kafka = MachineSettings(), KafkaSettings.read()
    return (
        LineExperiment(kafka, machine),
        line_vs_plain(machine),
        line_vs_tuned(machine),
        OfflineKernel(machine),
        JoinVsFeast(machine),
        OnlineReadVsFeast(),
        FeaturesVsFloor(kafka, machine),
        BatchAgentVsStock(machine),
        CardGrowth(),
        DatasetVsPandas(machine),
        StoredBytes(),
        TrainVsPlain(machine),
        ArtefactLoad(),
        EngineVsSgemm(),
        Int8VsFp32(),
        Rules50(),
        UnaryVsEcho(kafka, machine),
        BatchVsEngine(kafka, machine),
        HalfLoad(kafka, machine),
        Overload(kafka, machine),
        LineLatency(kafka, machine),
        Batching(kafka, machine),
        RssGrowth(kafka, machine),
    )
