"""Run the scoring service or one of its commands: `python -m services.scoring [rules] ...`."""

import sys

from fraudstream.runtime.private_files import keep_files_private
from services.scoring.cli.main import main

if __name__ == "__main__":
    keep_files_private()
    sys.exit(main(sys.argv[1:]))
