"""`python -m fraudstream`: the command `fraudstream` where its script is not on the PATH."""

import sys

from fraudstream.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
