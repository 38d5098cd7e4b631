"""Run the archive: `python -m services.archive [check]`."""

import sys

from fraudstream.runtime.private_files import keep_files_private
from services.archive.cli import main

if __name__ == "__main__":
    keep_files_private()
    sys.exit(main(sys.argv[1:]))
