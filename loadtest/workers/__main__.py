"""Run one worker of the benchmark: `python -m loadtest.workers ROLE`."""

import sys

from loadtest.workers.command import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
