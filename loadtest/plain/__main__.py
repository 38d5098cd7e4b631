"""Run one process of the plain or the tuned composition: `python -m loadtest.plain ROLE`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from fraudstream.settings import RedisSettings
from loadtest.plain.settings import PlainSettings


def run(arguments: Sequence[str]) -> int:
    """Run one role until a signal, or `register` to its end."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.plain", description=__doc__)
    parser.add_argument(
        "role", choices=["register", "features", "entity", "scorer", "tuned", "tuned-entity"]
    )
    role = parser.parse_args(arguments).role
    settings = PlainSettings.read()
    # Each role imports its own libraries only: what it does not use costs it nothing.
    if role == "scorer":
        from loadtest.plain.scorer import serve

        serve(settings)
    elif role == "register":
        from loadtest.plain.feast_parts import open_feast, register_views

        register_views(open_feast(settings.folder, RedisSettings.read()), settings.folder)
    else:
        from loadtest.plain.agents import run_agent

        run_agent(role, settings)
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
