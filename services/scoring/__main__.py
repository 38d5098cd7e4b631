"""Run the scoring service or one of its commands: `python -m services.scoring [rules] ...`."""

import sys

from services.scoring.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
