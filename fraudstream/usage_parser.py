"""A command line that ends as sysexits says."""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn


class UsageParser(argparse.ArgumentParser):
    """Ends with 64 (EX_USAGE) for a wrong command line, where argparse would end with 2."""

    def error(self, message: str) -> NoReturn:
        """Say how the command is used and what was wrong, and end."""
        self.print_usage(sys.stderr)
        self.exit(os.EX_USAGE, f"{self.prog}: {message}\n")
