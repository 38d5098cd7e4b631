"""Entry point of `python -m training`."""

import sys

from training.command import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
