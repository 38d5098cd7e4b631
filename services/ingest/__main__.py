"""Run ingest, or one of its commands: `python -m services.ingest [topics|dlq|keys] ...`."""

import sys

from fraudstream.runtime.private_files import keep_files_private
from services.ingest.cli import main

if __name__ == "__main__":
    keep_files_private()
    sys.exit(main(sys.argv[1:]))
