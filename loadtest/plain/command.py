"""The command line of the plain composition."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from fraudstream.settings import KafkaSettings, RedisSettings
from loadtest.plain.settings import PlainSettings


def run(arguments: Sequence[str]) -> int:
    """Run one role until a signal, or `register` to its end."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.plain", description=__doc__)
    parser.add_argument(
        "role", choices=["register", "features", "entity", "scorer", "tuned", "tuned-entity"]
    )
    role = parser.parse_args(arguments).role
    settings = PlainSettings.read()
    if role == "scorer":
        # Each role imports its own libraries only: what it does not use costs it nothing.
        from loadtest.plain.scorer import serve

        return serve(settings)
    if role in ("tuned", "tuned-entity"):
        from loadtest.plain.tuned import run_tuned

        run_tuned(role, settings, KafkaSettings.read())
        return 0
    from loadtest.plain.views import open_feast, register_views

    feast = open_feast(settings.folder, RedisSettings.read())
    if role == "register":
        register_views(feast, settings.folder)
        return 0
    from loadtest.plain.worker import run_worker

    run_worker(role, settings, KafkaSettings.read(), feast)
    return 0
