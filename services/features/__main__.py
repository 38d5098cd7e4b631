"""Run a features worker: `python -m services.features card|entity|label`."""

import sys

from services.features.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
