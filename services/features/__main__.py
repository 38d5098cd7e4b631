"""Run a features worker: `python -m services.features card|entity|label`."""

import sys

from fraudstream.runtime.private_files import keep_files_private
from services.features.cli import main

if __name__ == "__main__":
    keep_files_private()
    sys.exit(main(sys.argv[1:]))
