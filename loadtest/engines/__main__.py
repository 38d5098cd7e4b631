"""`python -m loadtest.engines`."""

import sys

from loadtest.engines.command import main

if __name__ == "__main__":
    sys.exit(main())
