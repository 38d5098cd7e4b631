"""Run the console: `python -m services.console [serve | create-user NAME]`."""

import sys

from fraudstream.runtime.private_files import keep_files_private
from services.console.cli.main import main

if __name__ == "__main__":
    keep_files_private()
    sys.exit(main(sys.argv[1:]))
