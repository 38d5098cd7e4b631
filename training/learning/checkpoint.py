"""Where a fit stands, kept after each epoch, so that one that was ended goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from fraudstream.errors import InvalidSettings

_FILE: Final = "checkpoint.pt"


class Checkpoints:
    """The last state of one fit, in a folder.

    Args:
        folder: Made where missing.
        what: Everything that the fit depends on, as text: a state of another fit is refused.
    """

    def __init__(self, folder: Path, what: str) -> None:
        self._path = folder / _FILE
        self._what = hashlib.sha256(what.encode()).hexdigest()
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the state, whole or not at all."""
        part = self._path.with_suffix(".part")
        torch.save({"what": self._what, "state": dict(state)}, part)
        part.replace(self._path)

    def load(self) -> dict[str, Any] | None:
        """Return the state, None where there is none. Nothing in the file is run.

        Raises:
            InvalidSettings: It cannot be read, or is of another fit.
        """
        if not self._path.is_file():
            return None
        try:
            found = torch.load(self._path, weights_only=True)
            what, state = found["what"], dict(found["state"])
        except Exception as exc:  # PyTorch's errors share no base
            msg = f"{self._path}: expected a checkpoint of this release; delete it to start anew"
            raise InvalidSettings(msg) from exc
        if what != self._what:
            msg = f"{self._path}: of a fit with other settings or rows; delete it to start anew"
            raise InvalidSettings(msg)
        return state
