"""Run one process of the plain composition: `python -m loadtest.plain ROLE`."""

import sys

from loadtest.plain.command import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
