"""One scoring process: alone, or a worker of a group that shares its ports."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from contextlib import suppress
from typing import Final

import uvloop

from fraudstream.runtime.readiness import keep_what_lives, say_ready
from fraudstream.telemetry.exported_metrics import check_metrics_port, serve_metrics
from services.scoring.process.build import build
from services.scoring.process.worker_group import ALIVE
from services.scoring.settings import ServiceSettings

# A round of decisions makes some 10,000 objects, and nearly all of them go with it.
_COLLECT_AFTER: Final = 20_000
# The engine's thread needs the interpreter for its answer, and a busy event loop would keep it for
# five milliseconds.
_SWITCH_S: Final = 0.0005


def serve_alone(settings: ServiceSettings) -> None:
    """Serve until SIGTERM; says `ready`."""
    _run(settings, settings.scoring.metrics_port, is_worker=False)


def serve_as_worker(settings: ServiceSettings, number: int) -> None:
    """Serve on shared ports until SIGTERM, or until the parent is gone: its end of stdin closes."""
    port = settings.scoring.metrics_port
    _run(settings, port + number if port else 0, is_worker=True)


def _run(settings: ServiceSettings, metrics_port: int, *, is_worker: bool) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, metrics_port, is_worker=is_worker))


async def _serve(settings: ServiceSettings, metrics_port: int, *, is_worker: bool) -> None:
    """Serve; metrics come with readiness, so that a probe of them tells it."""

    def announce() -> None:
        serve_metrics("scoring", metrics_port)
        say_ready()

    # Before the model is loaded: a port that is in use is told at once.
    check_metrics_port("scoring", metrics_port)
    service = await build(settings, is_shared=is_worker)
    _settle_interpreter()
    service.stop_on_signals()
    if not is_worker:
        await service.run(announce)
        return
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), service.stop)
    living = asyncio.create_task(_say_alive())
    await service.run(announce)
    living.cancel()


async def _say_alive() -> None:
    """Tell the parent every second that this event loop turns."""
    os.set_blocking(sys.stdout.fileno(), False)
    while True:
        await asyncio.sleep(1.0)
        with suppress(BlockingIOError):  # the parent does not read: that is no reason to stop
            os.write(sys.stdout.fileno(), ALIVE + b"\n")


def _settle_interpreter() -> None:
    """Fit the interpreter to a service whose working set is in memory: a fifth more calls."""
    keep_what_lives()
    gc.set_threshold(_COLLECT_AFTER, *gc.get_threshold()[1:])
    sys.setswitchinterval(_SWITCH_S)
