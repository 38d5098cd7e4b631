"""Run the scoring service: `python -m services.scoring`."""

import sys

from services.scoring.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
