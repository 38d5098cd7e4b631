"""Run ingest, or one of its commands: `python -m services.ingest [topics|dlq|keys] ...`."""

import sys

from services.ingest.commands import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
