"""Run a command about key files: `python -m fraudstream.keys kek|wrap|rewrap|show ...`."""

import sys

from fraudstream.keys.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
