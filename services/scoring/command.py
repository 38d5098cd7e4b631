"""The command line: start the service, say `ready`, turn errors into exit codes."""

from __future__ import annotations

import asyncio
import logging
import os

import uvloop
from aiokafka.errors import KafkaError

from fraudstream.errors import (
    BrokerUnavailable,
    InvalidSettings,
    ModelRefused,
    OnlineStoreUnavailable,
)
from fraudstream.json_log import log_json
from fraudstream.telemetry import serve_metrics
from services.scoring.build import build
from services.scoring.settings import ServiceSettings

_LOG = logging.getLogger(__name__)


def main() -> int:
    """Run the service; return its exit code (sysexits)."""
    log_json("scoring")
    try:
        settings = ServiceSettings.read()
        serve_metrics(settings.scoring.metrics_port)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings))
    except InvalidSettings as exc:
        _LOG.error("%s", exc)  # the message says it all
        return os.EX_CONFIG
    except ModelRefused as exc:
        _LOG.error("the model is refused: %s", exc)  # likewise
        return exc.exit_code
    except (OnlineStoreUnavailable, BrokerUnavailable, KafkaError, OSError) as exc:
        _LOG.error("scoring cannot serve: %s", exc)  # likewise
        return os.EX_UNAVAILABLE
    return os.EX_OK


async def _serve(settings: ServiceSettings) -> None:
    service = await build(settings)
    service.stop_on_signals()
    await service.run(lambda: print("ready", flush=True))
