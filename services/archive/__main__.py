"""Run the archive: `python -m services.archive [check]`."""

import sys

from services.archive.commands import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
