"""Serve the echo: `python -m loadtest.echo PORT ANSWER_FILE`."""

import sys

from loadtest.echo.command import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
