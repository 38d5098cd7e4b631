"""Run the benchmark: `python -m loadtest.bench --help`."""

import sys

from loadtest.bench.cli import run
from loadtest.figures.catalogue import experiments

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], experiments()))
