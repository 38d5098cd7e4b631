"""Entry point of `python -m training`."""

import sys

from fraudstream.runtime.private_files import keep_files_private
from training.cli import run

if __name__ == "__main__":
    keep_files_private()
    sys.exit(run(sys.argv[1:]))
