"""The release: what `--version` prints and the packages are built with."""

from typing import Final

VERSION: Final = "0.1.0"
