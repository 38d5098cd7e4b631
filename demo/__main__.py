"""Run the demo's command line."""

import sys

from demo.cli import run
from fraudstream.runtime.private_files import keep_files_private

if __name__ == "__main__":
    keep_files_private()
    sys.exit(run(sys.argv[1:]))
