"""The two TensorRT libraries behind one face: `tensorrt` (10.15 and 11) and `tensorrt_rtx`.

What differs between them is asked of a library here or in the place that needs it; nothing of it is
imported before a GPU engine is asked for.
"""

from __future__ import annotations

import functools
import importlib
from collections import deque
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

from fraudstream.engines.engine_kinds import EngineKind
from fraudstream.errors import EngineFailed

# An object of a library without types.
Native = Any

_MOST_MESSAGES: Final = 32
# Follows every error where there is no driver; it says nothing about the model.
_NOISE: Final = "catchCudaError"


# The wheels of TensorRT-RTX without its meta package carry the second name only.
_MODULES: Final = {
    EngineKind.TENSORRT: ("tensorrt",),
    EngineKind.TENSORRT_RTX: ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
TENSORRTS: Final = tuple(_MODULES)


@dataclass(frozen=True, slots=True)
class Library:
    """A TensorRT that was imported.

    Attributes:
        name: Which one.
        module: Its module.
        logger: The process's one logger of it.
        complaints: Its last errors, oldest first.
    """

    name: EngineKind
    module: ModuleType
    logger: Native
    complaints: deque[str]

    @property
    def version(self) -> str:
        """Return the version of the library."""
        return str(self.module.__version__)

    @property
    def is_rtx(self) -> bool:
        """Whether it compiles kernels at the first run, and builds without a GPU."""
        return self.name is EngineKind.TENSORRT_RTX

    def said(self) -> str:
        """Return what it complained of since the last call, in one line."""
        text = "; ".join(self.complaints)
        self.complaints.clear()
        return text or "it did not say why"


def without_noise(message: str) -> str:
    r"""Return a message in one line, without what follows every error where there is no driver.

    >>> without_noise("Unique: no importer\n[checkMacros.cpp::catchCudaError::250] cudaError 35")
    'Unique: no importer'
    """
    return " ".join(line.strip() for line in message.splitlines() if _NOISE not in line)


@functools.cache  # TensorRT takes one logger a process: a second one is ignored
def open_library(name: EngineKind) -> Library:
    """Import a TensorRT.

    Raises:
        EngineFailed: `LIBRARY_ABSENT`.
    """
    module = _import_first(name)
    complaints: deque[str] = deque(maxlen=_MOST_MESSAGES)
    severity = module.ILogger.Severity
    grave = (severity.INTERNAL_ERROR, severity.ERROR)

    class Logger(module.ILogger):  # type: ignore[name-defined,misc]  # a class made at run time
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, level: Native, message: str) -> None:
            if level in grave and (said := without_noise(message)):
                complaints.append(said)

    return Library(name, module, Logger(), complaints)


def _import_first(name: EngineKind) -> ModuleType:
    faults = []
    for module in _MODULES[name]:
        try:
            return importlib.import_module(module)
        except (ImportError, OSError) as exc:  # the wheel is there, a library beside it is not
            faults.append(str(exc))
    raise EngineFailed("LIBRARY_ABSENT", f"expected the package {name} (extra: gpu): {faults}")
