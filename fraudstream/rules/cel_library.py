"""The CEL library without its command line, which imports prompt_toolkit and pygments.

They cost half a second of CPU and 20 MB at each start, for what nobody calls here.
"""

from __future__ import annotations

import sys
from types import ModuleType

sys.modules.setdefault("cel.cli", ModuleType("cel.cli"))

import cel  # noqa: E402  # the package imports its command line unless it is there

__all__ = ["cel"]
