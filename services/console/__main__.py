"""Run the console: `python -m services.console [serve | create-user NAME]`."""

import sys

from services.console.commands import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
